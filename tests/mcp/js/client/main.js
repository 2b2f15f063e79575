// A client on the official SDK that goes through two replicas of a proxy, and leaves with an error where it notices that
// there are two. Usage: node client (streamable|sse|rolling) URL-OF-A URL-OF-B

import { Replicas } from './replicas.js';
import { rolling } from './rolling.js';
import { sse } from './sse.js';
import { streamable } from './streamable.js';

const SEQUENCES = { streamable, sse, rolling };

const [sequence, a, b] = process.argv.slice(2);
if (!Object.hasOwn(SEQUENCES, sequence) || !a || !b) {
  console.error('Usage: node client (streamable|sse|rolling) URL-OF-A URL-OF-B');
  process.exit(2);
}
SEQUENCES[sequence](new Replicas(a, b)).then(
  () => {
    console.log('done');
    // What is still open, as in a stream of a session that was given up, is not waited for.
    process.exit(0);
  },
  error => {
    console.error(error);
    process.exit(1);
  },
);
