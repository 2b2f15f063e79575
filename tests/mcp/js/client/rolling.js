// Streamable HTTP through a balancer while the replicas behind it are replaced, until SIGTERM: no call fails, and the
// stream, which ends with its replica, is resumed without a message lost or said twice.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Conversation } from './conversation.js';

const PAUSE_MS = 20;

export async function rolling(replicas) {
  let ended = false;
  process.once('SIGTERM', () => (ended = true));
  const fetch = replicas.fetch(() => 'A');
  const session = await Conversation.start(new StreamableHTTPClientTransport(replicas.url('A', '/mcp'), { fetch }));
  await replicas.streams(1);
  console.log('begun');

  let said = 0;
  while (!ended) {
    await session.count(1);
    await session.call('announce', { from: said, to: ++said });
    await sleep(PAUSE_MS);
  }
  await session.hears(said);
  const streams = await replicas.streams(2);
  console.log(`${said} calls, ${streams.length} streams`);
  assert.ok(said > 0);
  await session.close();
}
