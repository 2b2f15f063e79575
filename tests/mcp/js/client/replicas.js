// Two replicas, and which one each request of a client goes to.

export class Replicas {
  // Every request so far, as in "GET B 17": method, replica, and the event that a stream is resumed after.
  log = [];
  #origins;
  #posts = 0;
  #streams = [];

  constructor(a, b) {
    this.#origins = { A: new URL(a).origin, B: new URL(b).origin };
  }

  url(replica, path) {
    return new URL(path, this.#origins[replica]);
  }

  // A fetch for the SDK's transports: `route` names the replica for each request.
  fetch(route) {
    return async (url, init = {}) => {
      const method = init.method ?? 'GET';
      const last = new Headers(init.headers).get('last-event-id');
      const replica = route({ method, last });
      this.log.push([method, replica, last].filter(Boolean).join(' '));
      const { pathname, search } = new URL(url);
      const response = await fetch(this.url(replica, pathname + search), init);
      if (method === 'GET' && response.ok) this.#streams.push(replica);
      return response;
    };
  }

  // Every other one, A first.
  alternate() {
    return this.#posts++ % 2 === 0 ? 'A' : 'B';
  }

  // Resolves when so many streams have been opened, the head of their responses received.
  async streams(count) {
    await until(`${count} streams`, () => this.#streams.length >= count);
    return this.#streams;
  }
}

const PATIENCE_MS = 30_000;

export async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
