// The icons: strokes on a 24 by 24 canvas, coloured by the text around them.

const PATHS = {
  mic: ['M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3z', 'M5.500 11a6.500 6.500 0 0 0 13 0', 'M12 17.500V21'],
  'mic-off': ['M9 9.500V11a3 3 0 0 0 4.900 2.300', 'M15 11.200V6a3 3 0 0 0-5.900-.8', 'M5.500 11a6.500 6.500 0 0 0 10.600 5', 'M18.500 11a6.500 6.500 0 0 1-.6 2.700', 'M12 17.500V21', 'M4 3.500l16 17'],
  camera: ['M5 6.500h8a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2z', 'M15 10.700l4.700-2.900a.9.900 0 0 1 1.300.8v6.800a.9.900 0 0 1-1.300.8L15 13.300'],
  'camera-off': ['M9.500 6.500H13a2 2 0 0 1 2 2v3', 'M14.800 16.400a2 2 0 0 1-1.800 1.100H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 1.900-2', 'M15 10.700l4.700-2.900a.9.900 0 0 1 1.300.8v6.800', 'M4 3.500l16 17'],
  screen: ['M4.500 4.500h15a1.500 1.500 0 0 1 1.500 1.500v9.500a1.500 1.500 0 0 1-1.500 1.500h-15A1.500 1.500 0 0 1 3 15.500V6a1.500 1.500 0 0 1 1.500-1.500z', 'M8.500 20.500h7', 'M12 13.800V8', 'M9.400 10.300L12 7.700l2.600 2.600'],
  chat: ['M20.500 12a7.800 7.500 0 0 1-11.500 6.600L4 20l1.500-4.200A7.300 7.300 0 0 1 4.500 12a8 7.500 0 0 1 16 0z'],
  leave: ['M3.600 15.600a1.500 1.500 0 0 1-.8-1.600c.7-3.200 4.700-5.500 9.200-5.500s8.500 2.300 9.200 5.500a1.500 1.500 0 0 1-.8 1.600l-2.700 1.200a1.500 1.500 0 0 1-2-.7l-.9-2a10 10 0 0 0-5.600 0l-.9 2a1.500 1.500 0 0 1-2 .7z'],
  link: ['M10 14a4 4 0 0 0 5.700 0l3.200-3.200a4 4 0 0 0-5.700-5.700l-1 1', 'M14 10a4 4 0 0 0-5.700 0l-3.200 3.200a4 4 0 0 0 5.700 5.700l1-1'],
  send: ['M4.500 12h8', 'M4 4.500l16.500 7.500L4 19.500l2-7.500z'],
  close: ['M6 6l12 12', 'M18 6L6 18'],
  sound: ['M4 9.500v5h3.500L12 18.500v-13L7.500 9.500z', 'M15.500 9a4 4 0 0 1 0 6', 'M18 6.500a7.500 7.500 0 0 1 0 11'],
  expand: ['M4 9V4h5', 'M20 9V4h-5', 'M4 15v5h5', 'M20 15v5h-5'],
};

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  for (const d of PATHS[name]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

// Puts the icon in front of what the element holds, in place of the one it had.
export function setIcon(element, name) {
  if (element.dataset.shows === name) return;
  element.dataset.shows = name;
  element.querySelector(':scope > .icon')?.remove();
  element.prepend(icon(name));
}
