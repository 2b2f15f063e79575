// The transport of 2024-11-05: the stream is with A, every message is posted through B.

import assert from 'node:assert/strict';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { Conversation } from './conversation.js';
import { until } from './replicas.js';

export async function sse(replicas) {
  let endpoint;
  const fetchFrom = replicas.fetch(({ method }) => (method === 'GET' ? 'A' : 'B'));
  const connect = () =>
    new SSEClientTransport(replicas.url('A', '/sse'), {
      fetch: (url, init) => {
        if (init.method === 'POST') endpoint = new URL(url);
        return fetchFrom(url, init);
      },
    });

  const session = await Conversation.start(connect());
  await session.count();
  await session.call('announce', { from: 0, to: 5 });
  await session.hears(5);
  await session.progresses();
  await session.answers();
  assert.ok(
    replicas.log.every(request => request === 'GET A' || request === 'POST B'),
    replicas.log.join(),
  );

  // The end of the stream is the end of the session, on every replica.
  const ended = endpoint.pathname + endpoint.search;
  await session.close();
  const post = replica => {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'ping' });
    return fetch(replicas.url(replica, ended), { method: 'POST', headers, body });
  };
  for (const replica of ['A', 'B']) {
    let status;
    const asks = setInterval(async () => (status = (await post(replica)).status), 100);
    await until(`404 from ${replica}`, () => status === 404).finally(() => clearInterval(asks));
  }

  const anew = await Conversation.start(connect());
  await anew.count();
  await anew.close();
}
