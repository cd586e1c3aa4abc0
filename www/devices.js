// Opens this device's camera, microphone and screen, and explains to the user why one cannot be opened.

const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

// The size of the largest simulcast layer. More would cost encoding time; less is blurred in a large tile.
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

// Sharp text matters more than smooth motion.
const SCREEN = { frameRate: { ideal: 15, max: 30 } };

// Opens the wanted devices, or those of them that can be opened.
// Returns { audio, video, problem }: tracks or null, and a text for the user or ''.
export async function openDevices({ microphone, camera }) {
  const nothing = { audio: null, video: null, problem: '' };
  if (!microphone && !camera) return nothing;
  if (!navigator.mediaDevices?.getUserMedia) return { ...nothing, problem: insecureWords() };
  const attempts = [[microphone, camera]];
  if (microphone && camera) attempts.push([true, false], [false, true]);
  const errors = [];
  for (const [audio, video] of attempts) {
    // After a refusal, only try devices whose permission is granted: others would show the same prompt again.
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

// Whether the browser opens the device without a prompt; false if the browser does not say.
export async function isAllowed(name) {
  try {
    return (await navigator.permissions.query({ name })).state === 'granted';
  } catch {
    return false;
  }
}

export const canShareScreen = Boolean(navigator.mediaDevices?.getDisplayMedia);

// Returns { audio, video, problem }, as openDevices does. If the user closes the picker, `problem` is ''.
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
