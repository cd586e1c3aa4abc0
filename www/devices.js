// Camera, microphone and screen of this machine, and what is wrong with them in words.

const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

// The largest of the three sizes in which it is sent. More costs the encoder, less is unsharp in a large tile.
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

// Text must be sharp rather than smooth.
const SCREEN = { frameRate: { ideal: 15, max: 30 } };

// Opens what is wanted, or as much of it as there is.
// Gives { audio, video, problem }: tracks or null, and words or ''.
export async function openDevices({ microphone, camera }) {
  const nothing = { audio: null, video: null, problem: '' };
  if (!microphone && !camera) return nothing;
  if (!navigator.mediaDevices?.getUserMedia) return { ...nothing, problem: insecureWords() };
  const attempts = [[microphone, camera]];
  if (microphone && camera) attempts.push([true, false], [false, true]);
  const errors = [];
  for (const [audio, video] of attempts) {
    // After a refusal only what is allowed for sure: anything else would show the same question again.
    if (errors.some(isRefusal) && !(await isAllowed(audio ? 'microphone' : 'camera'))) continue;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: audio && AUDIO, video: video && VIDEO });
      const problem = errors.length ? problemWords(errors.at(-1), audio ? 'camera' : 'microphone') : '';
      return { audio: stream.getAudioTracks()[0] ?? null, video: stream.getVideoTracks()[0] ?? null, problem };
    } catch (error) {
      errors.push(error);
    }
  }
  const what = microphone && camera ? 'camera and microphone' : camera ? 'camera' : 'microphone';
  return { ...nothing, problem: `${problemWords(errors[0], what)} You can watch, listen and chat.` };
}

function isRefusal({ name }) {
  return name === 'NotAllowedError' || name === 'SecurityError';
}

// Whether the browser gives the device without a question; not each browser says so.
export async function isAllowed(name) {
  try {
    return (await navigator.permissions.query({ name })).state === 'granted';
  } catch {
    return false;
  }
}

export const canShareScreen = Boolean(navigator.mediaDevices?.getDisplayMedia);

// Gives { audio, video, problem }; a picker that was closed is no problem.
export async function openScreen() {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN, audio: true });
    const video = stream.getVideoTracks()[0] ?? null;
    if (video) video.contentHint = 'detail';
    return { audio: stream.getAudioTracks()[0] ?? null, video, problem: '' };
  } catch (error) {
    return { audio: null, video: null, problem: error.name === 'NotAllowedError' ? '' : problemWords(error, 'screen') };
  }
}

export function isInsecure() {
  return !navigator.mediaDevices?.getUserMedia;
}

export function insecureWords() {
  return 'Browsers give no camera or microphone to a page from plain http, other than localhost. '
    + 'Open this page by https (start the server with --tls auto, or put it behind a TLS proxy), or on the server’s own machine as localhost. '
    + 'You can still join to watch, listen and chat.';
}

function problemWords(error, what) {
  switch (error.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The browser does not let this page use the ${what}. Allow it in the browser’s address bar, and in the system’s privacy settings, then switch it on.`;
    case 'NotFoundError':
      return `No ${what.replace(' and ', ' or ')} was found. Plug one in, then switch it on.`;
    case 'NotReadableError':
    case 'AbortError':
      return `The ${what} can’t be started: another program may be using it.`;
    case 'OverconstrainedError':
      return `The ${what} can’t do what this page asks for (${error.constraint || 'unknown setting'}).`;
    default:
      return `The ${what} can’t be used (${error.name}: ${error.message}).`;
  }
}
