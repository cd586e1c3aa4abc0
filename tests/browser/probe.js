// Functions with which the tests inspect a page. They are injected before the page's own scripts, and change only that a
// reload in a call raises no question, which nobody would answer, unless `isAsked` is set.
{
  addEventListener('beforeunload', (event) => { if (event.isTrusted && !window.isAsked) event.stopImmediatePropagation(); }, { capture: true });
  const $ = (selector) => document.querySelector(selector);
  const pc = () => window.aq?.pc ?? window.pc ?? null;
  const stats = async (wanted) => [...(await pc()?.getStats() ?? new Map()).values()].filter(({ type }) => type === wanted);
  const received = () => stats('inbound-rtp');

  window.probe = {
    tile: (name) => [...document.querySelectorAll('.tile:not(.self, .screen)')].find((tile) => tile.dataset.name === name) ?? null,
    screen: (name) => [...document.querySelectorAll('.tile.screen:not(.own)')].find((tile) => tile.dataset.name === name) ?? null,
    plain: (index) => document.querySelectorAll('#remoteVideos video')[index] ?? null,
    transceivers: () => pc()?.getTransceivers().length ?? 0,

    // Playback state of an element or the media element in it: time and size as shown, frames and audio as decoded.
    async media(element) {
      const video = element?.matches('video') ? element : element?.querySelector('video');
      if (!video) return null;
      const tracks = (video.srcObject?.getTracks() ?? []).map(({ id }) => id);
      const entries = (await received()).filter(({ trackIdentifier }) => tracks.includes(trackIdentifier));
      const sum = (field) => entries.reduce((total, entry) => total + (entry[field] ?? 0), 0);
      return {
        time: video.currentTime,
        width: video.videoWidth,
        frames: sum('framesDecoded'),
        energy: sum('totalAudioEnergy'),
        sound_s: sum('totalSamplesDuration'),
        plays: !video.paused && !video.muted,
      };
    },

    // Video statistics of an element.
    async video(element) {
      const [track] = element?.querySelector('video').srcObject?.getVideoTracks() ?? [];
      const entry = (await received()).find(({ trackIdentifier }) => trackIdentifier === track?.id) ?? {};
      return {
        lines: entry.frameHeight ?? 0,
        frames: entry.framesDecoded ?? 0,
        keyframes: entry.keyFramesDecoded ?? 0,
        dropped: entry.framesDropped ?? 0,
        freezes: entry.freezeCount ?? 0,
        plis: entry.pliCount ?? 0,
      };
    },

    // Number of encoded frames, by simulcast layer.
    sent: async () => Object.fromEntries((await stats('outbound-rtp')).filter(({ kind }) => kind === 'video')
      .map(({ rid, framesEncoded }) => [rid ?? '', framesEncoded ?? 0])),

    // Scalability modes of active encodings, by simulcast layer.
    modes: async () => Object.fromEntries((await stats('outbound-rtp')).filter(({ kind, active }) => kind === 'video' && active)
      .map(({ rid, scalabilityMode }) => [rid ?? '', scalabilityMode ?? ''])),

    // Codecs of the video that it sends.
    codecs: async () => {
      const names = new Map((await stats('codec')).map(({ id, mimeType }) => [id, mimeType]));
      return (await stats('outbound-rtp')).filter(({ kind }) => kind === 'video').map(({ codecId }) => names.get(codecId));
    },

    // What the notice row says: the words of the most urgent notice, or ''.
    says: () => [...document.querySelectorAll('.notice:not([data-notice=alone]) .words')].find((words) => words.checkVisibility())?.textContent ?? '',

    // Chat messages: as shown, or as held while the chat is closed.
    chat: () => ($('#chat-log') ? [...document.querySelectorAll('#chat-log .line')] : null)?.map((line) => ({
      who: line.querySelector('.who').textContent,
      text: line.querySelector('.text').textContent,
      own: line.classList.contains('own'),
    })) ?? window.aq?.chat ?? [],

    // State of the page, for the message of a failed test.
    state: async () => ({
      state: document.body?.dataset.state,
      words: ['#notices', '#lobby-notices', '#join-status', '#ended-words'].map((selector) => $(selector)?.textContent).filter(Boolean),
      tiles: [...document.querySelectorAll('.tile')].map((tile) => `${tile.className}: ${tile.dataset.name}`),
      videos: await Promise.all([...document.querySelectorAll('video')].map((video) => window.probe.media(video))),
      connection: pc() && [pc().connectionState, pc().iceConnectionState, pc().signalingState],
      lines: pc()?.getTransceivers().map(({ mid, direction, currentDirection, receiver: { track } }) =>
        `${mid} ${direction} ${currentDirection} ${track.kind}${track.muted ? ' muted' : ''}`),
      received: (await received()).map(({ mid, kind, packetsReceived, framesDecoded }) => `${mid} ${kind}: ${packetsReceived} packets, ${framesDecoded} frames`),
      chat: window.probe.chat(),
    }),
  };
}
