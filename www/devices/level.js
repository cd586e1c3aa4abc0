// The level of a microphone, from 0 to 1.

const EVERY_MS = 80;
/** Below this, in decibels of full scale, a room is silent; speech near a microphone reaches LOUD_DB. */
const SILENT_DB = -60;
const LOUD_DB = -10;

/**
 * @param {MediaStreamTrack} track @param {(level: number) => void} show
 * @returns {() => void} ends the measurement
 */
export function measure(track, show) {
  if (typeof AudioContext === 'undefined') return () => {};
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    // Browsers let a context run only after a gesture, or while the page captures.
    if (context.state === 'suspended') context.resume().catch(() => {});
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const decibels = 10 * Math.log10(power + 1e-12);
    show(track.enabled ? Math.max(0, Math.min(1, (decibels - SILENT_DB) / (LOUD_DB - SILENT_DB))) : 0);
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    context.close().catch(() => {});
  };
}
