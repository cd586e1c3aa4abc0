// The bar: what one does in a call. The room's name stands beside it.

import * as state from '../state.js';
import { restriction } from '../session/invitation.js';
import { number, say, t } from '../words/index.js';
import { h } from './dom.js';
import { icon } from './icons.js';
import { item, openPopover } from './popover.js';

/** @typedef {import('../commands.js').Command} Command */

/** A command as a button. @param {Command} command @param {string} [more] classes @param {...Node} inside */
export function tool(command, more = '', ...inside) {
  const { isPressed, isOff } = command;
  return h('button', {
    type: 'button', id: `btn-${command.id}`,
    class: () => `tool${more && ` ${more}`}${isOff?.() ? ' off' : ''}${isPressed?.() ? ' active' : ''}`,
    'aria-keyshortcuts': command.key ? command.key.toUpperCase() : null,
    title: () => (command.key ? t('command.with-key', { name: say(command.words()), key: command.key.toUpperCase() }) : say(command.words())),
    hidden: () => command.isShown?.() === false,
    on: { click: command.run },
  }, icon(command.icon), h('span', { class: 'words' }, () => say(command.words())), ...inside);
}

/** @param {Record<string, Command>} commands */
export function bar(commands) {
  const unread = () => state.chat.value.unread;
  const badge = h('span', { id: 'unread', class: 'badge', hidden: () => !unread() },
    () => (unread() > 99 ? '99+' : unread()), h('span', { class: 'unseen' }, () => t('chat.unread', { count: unread() })));
  const chat = tool(commands.chat, '', badge);
  chat.setAttribute('aria-controls', 'panel');
  const split = (/** @type {Command} */ command) => h('div', { class: () => `split${command.isOff?.() ? ' off' : ''}`, hidden: () => command.isShown?.() === false }, tool(command));
  const react = tool(commands.react);
  react.setAttribute('aria-haspopup', 'menu');
  react.setAttribute('aria-expanded', 'false');
  const more = tool({ id: 'more', icon: () => 'more', words: () => ({ key: 'command.more' }), run: () => openMore(more, commands) });
  more.setAttribute('aria-haspopup', 'menu');
  more.setAttribute('aria-expanded', 'false');
  // The heading has the focus first: the microphone is the next stop.
  const heading = h('h1', { id: 'room-name', class: 'unseen', tabindex: -1 }, () => state.room.value.me?.room);
  return h('nav', { id: 'bar', class: 'bar', 'aria-label': () => t('call.controls') }, heading,
    split(commands.mic), split(commands.camera), tool(commands.screen, 'wide'), tool(commands.hand, 'wide'), react, chat, more, tool(commands.leave, 'leave'));
}

/** @param {HTMLElement} anchor @param {Record<string, Command>} commands */
function openMore(anchor, commands) {
  openPopover(anchor, { id: 'more-menu', label: () => t('command.more') }, (close) => {
    const of = (/** @type {string} */ id) => item(commands[id], close);
    const screen = of('screen');
    screen.classList.add('narrow');
    const moderates = state.rights.peek().moderate;
    return [
      screen, of('flip'),
      h('div', { role: 'group', 'aria-label': () => t('command.layout') }, of('grid'), of('spotlight')),
      h('hr', null),
      of('people'), of('statistics'), of('float'), of('self'), of('invite'), of('rename'), of('settings'), of('keys'),
      ...(moderates ? [h('hr', null), h('p', { class: 'caption', role: 'presentation' }, () => t('menu.everybody')), of('lock'), of('end')] : []),
    ];
  });
}

/** The room's name, its people and the invitation. @param {Record<string, Command>} commands @param {() => boolean} canInvite */
export function roomHeader(commands, canInvite) {
  const people = () => state.room.value.people.size + 1;
  const limits = () => restriction(state.rights.value);
  return h('header', { id: 'top', class: 'room' },
    h('div', { class: 'place' },
      h('p', { class: 'title', 'aria-hidden': 'true' }, () => state.room.value.me?.room),
      h('p', { id: 'restricted', hidden: () => !limits() }, () => say(limits()))),
    h('span', { id: 'locked', class: 'state', hidden: () => !state.room.value.me?.locked, title: () => t('call.locked') },
      icon('lock'), h('span', { class: 'unseen' }, () => t('call.locked'))),
    h('button', {
      type: 'button', id: 'btn-people', class: () => `quiet count${commands.people.isPressed?.() ? ' active' : ''}`, 'aria-keyshortcuts': 'P', 'aria-controls': 'panel',
      'aria-expanded': () => String(commands.people.isPressed?.()), 'aria-label': () => t('call.count', { count: people() }), title: () => t('call.count', { count: people() }),
      on: { click: commands.people.run },
    }, icon('people'), h('span', null, () => number(people())), h('span', { class: 'dot', hidden: () => !state.room.value.knocks.size })),
    h('button', {
      type: 'button', id: 'btn-invite', class: 'quiet', hidden: () => !canInvite(), title: () => t('command.invite'),
      'aria-label': () => t('command.invite'), on: { click: commands.invite.run },
    }, icon('link')));
}
