// All tests of the page's pure modules: `node --test tests/page/all.mjs`, or in a browser with `run`.

import './chatlog.mjs';
import './commands.mjs';
import './corner.mjs';
import './devices.mjs';
import './layout.mjs';
import './links.mjs';
import './order.mjs';
import './room.mjs';
import './roster.mjs';
import './session.mjs';
import './statistics.mjs';
import './stereo.mjs';
import './store.mjs';
import './talk.mjs';
import './tiles.mjs';
import './words.mjs';

export { run } from './harness.mjs';
