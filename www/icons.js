// The icons: strokes on a 24 by 24 canvas, in the color of the surrounding text.

const PATHS = {
  mic: ['M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3z', 'M5.5 11a6.5 6.5 0 0 0 13 0', 'M12 17.5V21'],
  'mic-off': ['M9 9.5V11a3 3 0 0 0 4.9 2.3', 'M15 11.2V6a3 3 0 0 0-5.9-.8', 'M5.5 11a6.5 6.5 0 0 0 10.6 5', 'M18.5 11a6.5 6.5 0 0 1-.6 2.7', 'M12 17.5V21', 'M4 3.5l16 17'],
  camera: ['M5 6.5h8a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2z', 'M15 10.7l4.7-2.9a.9.9 0 0 1 1.3.8v6.8a.9.9 0 0 1-1.3.8L15 13.3'],
  'camera-off': ['M9.5 6.5H13a2 2 0 0 1 2 2v3', 'M14.8 16.4a2 2 0 0 1-1.8 1.1H5a2 2 0 0 1-2-2v-7a2 2 0 0 1 1.9-2', 'M15 10.7l4.7-2.9a.9.9 0 0 1 1.3.8v6.8', 'M4 3.5l16 17'],
  screen: ['M4.5 4.5h15a1.5 1.5 0 0 1 1.5 1.5v9.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 15.5V6a1.5 1.5 0 0 1 1.5-1.5z', 'M8.5 20.5h7', 'M12 13.8V8', 'M9.4 10.3L12 7.7l2.6 2.6'],
  chat: ['M20.5 12a7.8 7.5 0 0 1-11.5 6.6L4 20l1.5-4.2A7.3 7.3 0 0 1 4.5 12a8 7.5 0 0 1 16 0z'],
  leave: ['M3.6 15.6a1.5 1.5 0 0 1-.8-1.6c.7-3.2 4.7-5.5 9.2-5.5s8.5 2.3 9.2 5.5a1.5 1.5 0 0 1-.8 1.6l-2.7 1.2a1.5 1.5 0 0 1-2-.7l-.9-2a10 10 0 0 0-5.6 0l-.9 2a1.5 1.5 0 0 1-2 .7z'],
  link: ['M10 14a4 4 0 0 0 5.7 0l3.2-3.2a4 4 0 0 0-5.7-5.7l-1 1', 'M14 10a4 4 0 0 0-5.7 0l-3.2 3.2a4 4 0 0 0 5.7 5.7l1-1'],
  send: ['M6 12h7', 'M4 4.5l16.5 7.5L4 19.5l2-7.5z'],
  close: ['M6 6l12 12', 'M18 6L6 18'],
  sound: ['M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z', 'M15.5 9a4 4 0 0 1 0 6', 'M18 6.5a7.5 7.5 0 0 1 0 11'],
  lock: ['M6.5 11h11a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 18.5v-6A1.5 1.5 0 0 1 6.5 11z', 'M8 11V8a4 4 0 0 1 8 0v3'],
  unlock: ['M6.5 11h11a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 18.5v-6A1.5 1.5 0 0 1 6.5 11z', 'M8 11V7a4 4 0 0 1 7.7-1.5'],
  remove: ['M10 11.5a3.7 3.7 0 1 0 0-7.5 3.7 3.7 0 0 0 0 7.5z', 'M3 20a7 7 0 0 1 14 0', 'M17 7.5l4 4', 'M21 7.5l-4 4'],
  slow: ['M5.5 18v-6', 'M12 18v-.01', 'M18.5 18v-.01'],
  pin: ['M9 3.5h6l-.8 6.3 3.3 3.7h-11l3.3-3.7z', 'M12 13.5v7'],
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

// Makes the icon the first child of the element, and removes the previous icon.
export function setIcon(element, name) {
  if (element.dataset.shows === name) return;
  element.dataset.shows = name;
  element.querySelector(':scope > .icon')?.remove();
  element.prepend(icon(name));
}
