// Stereo for shared sound: what browsers do only if the session description asks for it (RFC 7587 section 7). Pure.

/** Enough for music in stereo; speech stays at what it needs. */
const PARAMETERS = 'stereo=1;maxaveragebitrate=128000';

/**
 * The description with stereo Opus in some m-lines: in an offer of the other side it is what to send, in the own answer
 * what to decode.
 * @param {string} sdp @param {ReadonlySet<string>} mids @returns {string}
 */
export function withStereo(sdp, mids) {
  if (!mids.size) return sdp;
  const [head, ...sections] = sdp.split(/^(?=m=)/m);
  return [head, ...sections.map((section) => {
    const mid = /^a=mid:(\S+)/m.exec(section)?.[1];
    const opus = /^a=rtpmap:(\d+) opus\//im.exec(section)?.[1];
    if (mid === undefined || !mids.has(mid) || !opus || /stereo=1/.test(section)) return section;
    const known = new RegExp(`^(a=fmtp:${opus} [^\\r\\n]+)`, 'm');
    if (known.test(section)) return section.replace(known, `$1;${PARAMETERS}`);
    return section.replace(new RegExp(`^(a=rtpmap:${opus} [^\\r\\n]+)`, 'm'), `$1\r\na=fmtp:${opus} ${PARAMETERS}`);
  })].join('');
}

/** The m-lines with the sound of screens. @param {readonly import('../room.js').Line[]} lines @param {boolean} own */
export function screenSounds(lines, own) {
  return new Set(lines.filter((line) => line.source === 'screen' && line.kind === 'audio' && Boolean(line.own) === own).map(({ mid }) => mid));
}
