import { screenSounds, withStereo } from '../../www/session/stereo.js';
import { equal, test } from './harness.mjs';

const section = (mid, fmtp = 'a=fmtp:111 minptime=10;useinbandfec=1\r\n') => `m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=mid:${mid}\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:111 opus/48000/2\r\n${fmtp}a=fmtp:63 111/111\r\n`;
const HEAD = 'v=0\r\ns=m=audio\r\n';

test('only the sound of screens becomes stereo', () => {
  const sdp = HEAD + section('0') + section('1') + 'm=video 9 X 96\r\na=mid:2\r\na=rtpmap:96 VP8/90000\r\n';
  const stereo = 'a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;maxaveragebitrate=128000\r\n';
  equal(withStereo(sdp, new Set(['1', '2'])), HEAD + section('0') + section('1', stereo) + sdp.slice(sdp.indexOf('m=video')));
  equal(withStereo(withStereo(sdp, new Set(['1'])), new Set(['1'])), withStereo(sdp, new Set(['1'])), 'twice is once');
  equal(withStereo(HEAD + section('1', ''), new Set(['1'])).includes('a=rtpmap:111 opus/48000/2\r\na=fmtp:111 stereo=1;'), true, 'without parameters');
  equal(withStereo(sdp, new Set()), sdp);
});

test('the lines of screens are told apart by who sends them', () => {
  const lines = [{ mid: '1', source: 'screen', kind: 'audio', own: true }, { mid: '2', source: 'screen', kind: 'audio' }, { mid: '3', source: 'screen', kind: 'video' }, { mid: '4', source: 'microphone', kind: 'audio' }];
  equal([[...screenSounds(lines, true)], [...screenSounds(lines, false)]], [['1'], ['2']]);
});
