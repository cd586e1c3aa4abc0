// The product's mark.

const SVG = 'http://www.w3.org/2000/svg';

export function mark() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'mark');
  svg.setAttribute('viewBox', '0 0 40 40');
  svg.setAttribute('aria-hidden', 'true');
  const add = (/** @type {string} */ tag, /** @type {Record<string, string>} */ attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  add('rect', { width: '40', height: '40', rx: '12' });
  add('circle', { cx: '17', cy: '19', r: '7.5' });
  add('path', { d: 'M21.5 24l5 5M27 13a8.5 8.5 0 0 1 0 12' });
  return svg;
}
