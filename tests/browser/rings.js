// Focus rings that something cuts. Evaluated in a page.
{
  const cuts = (style) => [style.overflowX, style.overflowY].some((each) => each !== 'visible') || style.clipPath !== 'none';

  /** How far the ring stands outside of its element, in pixels. */
  const reach = ({ outlineOffset, outlineWidth }) => Math.max(0, parseFloat(outlineOffset) + parseFloat(outlineWidth));

  const ringOf = (element) => {
    element.focus({ focusVisible: true });
    if (document.activeElement !== element) return null;
    const style = getComputedStyle(element);
    if (style.outlineStyle === 'none') return null;
    const { left, top, right, bottom } = element.getBoundingClientRect();
    const by = reach(style);
    return { left: left - by, top: top - by, right: right + by, bottom: bottom + by };
  };

  window.rings = () => {
    const all = [...document.querySelectorAll('button, input, select, textarea, a[href], [tabindex="0"]')];
    const seen = all.filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && !element.closest('[inert]'));
    let rings = 0;
    const bad = seen.flatMap((element) => {
      const ring = ringOf(element);
      if (!ring) return [];
      rings += 1;
      const boxes = [['window', { left: 0, top: 0, right: innerWidth, bottom: innerHeight }]];
      for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
        const style = getComputedStyle(at);
        // What scrolls shows the whole ring wherever it is not at an end.
        if (cuts(style) && !/auto|scroll/.test(style.overflowX + style.overflowY)) boxes.push([at.id || at.className, at.getBoundingClientRect()]);
      }
      return boxes.filter(([, box]) => ring.left < box.left - 0.5 || ring.top < box.top - 0.5 || ring.right > box.right + 0.5 || ring.bottom > box.bottom + 0.5)
        .map(([name]) => `${element.id || element.className || element.tagName} is cut by ${name}`);
    });
    return [rings, bad];
  };
}
