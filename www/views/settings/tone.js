// A tone that shows whether the loudspeaker works.

/** Two notes, in hertz; each begins and ends softly, in seconds. */
const NOTES = [523, 784];
const LASTS = 0.35;

/** @param {string} sink the id of the loudspeaker; '' is that of the system */
export async function playTone(sink) {
  const context = new AudioContext();
  const { setSinkId } = /** @type {any} */ (context);
  await setSinkId?.call(context, sink).catch(() => {}); // unplugged: then that of the system
  const volume = context.createGain();
  volume.connect(context.destination);
  volume.gain.value = 0;
  NOTES.forEach((frequency, at) => {
    const from = context.currentTime + 0.05 + at * LASTS;
    const note = context.createOscillator();
    note.frequency.value = frequency;
    note.connect(volume);
    volume.gain.setValueAtTime(0, from);
    volume.gain.linearRampToValueAtTime(0.2, from + 0.05);
    volume.gain.linearRampToValueAtTime(0, from + LASTS);
    note.start(from);
    note.stop(from + LASTS);
    if (at === NOTES.length - 1) note.onended = () => context.close();
  });
}
