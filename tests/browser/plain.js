// A page that handles only the six messages of the stable core protocol, as many examples do. It adds its tracks before
// the first offer, shows each received video track with its stream, and removes it when the stream loses it. It ignores
// all other events.

var pc; // global, for the tests

navigator.mediaDevices.getUserMedia({ audio: true, video: true }).then((stream) => {
  pc = new RTCPeerConnection();
  pc.ontrack = ({ track, streams: [stream] }) => {
    if (track.kind === 'audio') return;
    const element = document.createElement('video');
    element.srcObject = stream;
    element.autoplay = true;
    element.controls = true;
    document.getElementById('remoteVideos').appendChild(element);
    track.onmute = () => element.play();
    stream.onremovetrack = () => element.remove();
  };
  document.getElementById('localVideo').srcObject = stream;
  stream.getTracks().forEach((track) => pc.addTrack(track, stream));

  const socket = new WebSocket(new URL('websocket', location.href.replace(/^http/, 'ws')));
  pc.onicecandidate = ({ candidate }) => {
    if (candidate) socket.send(JSON.stringify({ event: 'candidate', data: JSON.stringify(candidate) }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    switch (message.event) {
      case 'offer':
        pc.setRemoteDescription(JSON.parse(message.data));
        pc.createAnswer().then((answer) => {
          pc.setLocalDescription(answer);
          socket.send(JSON.stringify({ event: 'answer', data: JSON.stringify(answer) }));
        });
        break;
      case 'candidate':
        pc.addIceCandidate(JSON.parse(message.data));
        break;
      case 'chat':
        window.lastLine = message.message;
        break;
    }
  };
  window.say = (text) => socket.send(JSON.stringify({ event: 'chat', data: text }));
});
