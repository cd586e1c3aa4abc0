// Functions with which the tests inspect the page's style. Evaluated in a page, whose elements it makes visible.
{
  const parts = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return color.startsWith('color(') ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], back) => [r, g, b].map((value, at) => value * a + back[at] * (1 - a));
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (rgb) => rgb.map((value) => linear(value / 255)).reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const isVisible = (element) => element.checkVisibility({ visibilityProperty: true });
  const isInactive = (element) => Boolean(element.closest(':disabled, label:has(:disabled), fieldset:has(:disabled)'));

  // Possible background colors of an element: its translucent ancestors over what is behind them, maybe any picture.
  const backs = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const color = parts(style.backgroundColor);
      if (color[3] > 0) layers.unshift(color);
      if (color[3] === 1) return [layers.reduce((back, layer) => over(layer, back), [0, 0, 0])];
      if (color[3] > 0 && style.position === 'absolute') break;
    }
    return [[0, 0, 0], [255, 255, 255]].map((picture) => layers.reduce((back, layer) => over(layer, back), picture));
  };
  const name = (element) => `${element.tagName.toLowerCase()}${element.id && `#${element.id}`}.${[...element.classList].join('.')} in ${element.parentElement?.id || element.parentElement?.className}`;
  const check = (least, words, element, color, under = element) => backs(under)
    .map((back) => ratio(over(parts(color), back), back))
    .filter((found) => found < least)
    .map((found) => `${words} of ${name(element)}: ${found.toFixed(2)}:1`);

  // Clipped to one pixel, for screen readers only.
  const hiddenBox = (element) => { for (let at = element; at; at = at.parentElement) if (getComputedStyle(at).clipPath !== 'none') return true; return false; };

  const shown = (selector) => [...document.querySelectorAll(selector)].filter((element) => isVisible(element) && !hiddenBox(element));
  const box = (element) => element.getBoundingClientRect();

  // Boxes of the call that lie over another one.
  const overlaps = () => {
    const all = shown('#call :is(.tile:not(.away, [data-role=self]), .pager, .share-caption, .notice, #panel, #bar .tool, .room .quiet, .room .title)');
    return all.flatMap((one, at) => all.slice(at + 1).filter((other) => {
      const [a, b] = [box(one), box(other)];
      return a.right > b.left + 1 && b.right > a.left + 1 && a.bottom > b.top + 1 && b.bottom > a.top + 1;
    }).map((other) => `${name(one)} lies over ${name(other)}`));
  };

  // What has to be in the window as a whole.
  const outside = () => shown('.tile:not(.away), #bar .tool, .pager, #panel, .notice, .menu, dialog, .panel > header, .dialog-head')
    .filter((element) => {
      const { left, right, top, bottom } = box(element);
      return left < -1 || top < -1 || right > innerWidth + 1 || bottom > innerHeight + 1;
    })
    .map((element) => `${name(element)} leaves the window: ${JSON.stringify(box(element))}`);

  // Texts that are cut, but names, which end in an ellipsis and stand elsewhere as a whole.
  const NAMES = '.name, .title, .who, .share-caption span, #restricted, h1';
  const cuts = () => shown('body *').filter((element) => {
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!texts.length || element.matches(NAMES) || element.closest('.unseen, svg, option, textarea')) return false;
    const { overflowX } = getComputedStyle(element);
    if (overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1) return true;
    const control = element.closest('button, .item, .notice, .chip, .card, .panel, dialog');
    if (!control || control.closest('.tile-button')) return false;
    const range = document.createRange();
    range.selectNodeContents(element);
    const [text, around] = [range.getBoundingClientRect(), box(control)];
    return text.width > 0 && (text.left < around.left - 1 || text.right > around.right + 1);
  }).map((element) => `the text of ${name(element)} is cut: ${element.textContent}`);

  // The pictures fill less than 80 % of their space.
  const crowded = () => {
    const { width, height } = box(document.querySelector('#tiles'));
    const area = shown('.tile:not(.away, [data-role=self])').map(box).reduce((sum, each) => sum + each.width * each.height, 0);
    const use = area / (width * height);
    return use < 0.8 ? [`faces fill ${Math.round(use * 100)} % of ${width} x ${height}`] : [];
  };

  window.looks = {
    // Visible pairs of a color and its background with less contrast than WCAG 1.4.3 and 1.4.11 require.
    pale() {
      const bad = [];
      let pairs = 0;
      for (const element of document.querySelectorAll('body *')) {
        if (!isVisible(element) || isInactive(element)) continue;
        const style = getComputedStyle(element);
        const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
        const field = element.matches('input:not([type=checkbox]), textarea, select');
        if (hasText || field) bad.push(...check(4.5, 'text', element, style.color));
        if (field) bad.push(...check(4.5, 'placeholder', element, getComputedStyle(element, '::placeholder').color));
        if (element.matches('svg.icon')) bad.push(...check(3, 'icon', element, style.stroke));
        if (element.matches('.input, .select')) bad.push(...check(3, 'edge', element, style.borderTopColor, element.parentElement));
        pairs += hasText || field || element.matches('svg.icon');
      }
      return { pairs, bad };
    },

    // Shows a notice of each kind, as the page does.
    async notices(words) {
      const { notify } = await import(new URL('notices.js', document.baseURI));
      notify({ id: 'info', kind: 'plain', icon: 'info', words: { code: '', message: words }, closes: true });
      notify({ id: 'problem', kind: 'warn', icon: 'warn', words: { code: '', message: words }, closes: true, until: Date.now() + 9000 });
      notify({ id: 'presenting', kind: 'accent', icon: 'screen', words: { code: '', message: words }, actions: [{ words: { code: '', message: 'Words' }, run() {} }] });
    },

    async dismisses() {
      const { dismissAll } = await import(new URL('notices.js', document.baseURI));
      dismissAll();
    },

    // From now on the class `hovered` looks like `:hover`.
    hover() {
      for (const sheet of document.styleSheets) {
        for (const [at, rule] of [...sheet.cssRules].entries().toArray().reverse()) {
          if (rule.selectorText?.includes(':hover')) sheet.insertRule(rule.cssText.replaceAll(':hover', '.hovered'), at + 1);
        }
      }
      for (const element of document.querySelectorAll('button, .tile, input, .item')) element.classList.add('hovered');
    },

    // Visible elements that extend beyond the window's sides.
    wide: () => [...document.querySelectorAll('body :is(button, input:not([type=checkbox]), label, p, h1, h2, form, textarea, select, .tile, .notice, .panel)')]
      .filter((element) => isVisible(element) && !element.closest('.unseen, .words') && !hiddenBox(element))
      .filter((element) => {
        const { left, right } = element.getBoundingClientRect();
        return left < 0 || right > innerWidth;
      })
      .map(name),

    // Visible controls that are smaller than a finger needs.
    small: () => [...document.querySelectorAll(':is(#call, dialog, .menu, #ended) :is(button, textarea, input:not([type=checkbox]))')]
      .filter((element) => isVisible(element) && !element.matches('.link'))
      .filter((element) => {
        const { width, height } = element.getBoundingClientRect();
        return width < 43.5 || height < 43.5;
      })
      .map((element) => `${name(element)}: ${element.getBoundingClientRect().width} x ${element.getBoundingClientRect().height}`),

    // What is wrong with how the page stands in its window, once it stands still: overlaps, what extends beyond the window,
    // cut texts, small controls, and too little room for faces if `faces` is set.
    async faults(faces) {
      const end = performance.now() + 2000;
      for (;;) {
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const found = [...overlaps(), ...outside(), ...cuts(), ...this.wide(), ...this.small(), ...(faces ? crowded() : [])];
        if (!found.length || performance.now() > end) return found;
      }
    },

    // Returns true if the whole element is within the window.
    within(selector) {
      const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    },

    // Style differences between two states of an element with forced colors.
    mark: (selector, pseudo) => {
      const style = getComputedStyle(document.querySelector(selector), pseudo);
      const width = parseFloat(style.borderTopWidth);
      return width ? `${width} ${style.borderTopColor}` : 'none';
    },
  };
}
