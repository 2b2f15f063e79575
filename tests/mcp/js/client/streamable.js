// Streamable HTTP with a session: it begins on A, its stream is opened on B and resumed on A, it is deleted on B.

import assert from 'node:assert/strict';
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Conversation } from './conversation.js';

export async function streamable(replicas) {
  const route = ({ method, last }) => {
    if (method === 'POST') return replicas.alternate();
    return method === 'GET' && last ? 'A' : 'B';
  };
  const connect = () => new StreamableHTTPClientTransport(replicas.url('A', '/mcp'), { fetch: replicas.fetch(route) });

  const transport = connect();
  const session = await Conversation.start(transport);
  assert.equal(replicas.log[0], 'POST A', 'initialize goes to A');
  assert.deepEqual(await replicas.streams(1), ['B']);
  await session.count();
  await session.call('announce', { from: 0, to: 5 });
  await session.hears(5);
  // Once on the stream of a call through each replica.
  await session.progresses();
  await session.progresses();

  // The stream is closed, more is said, and the client resumes: nothing is lost or said twice.
  await session.call('close_stream');
  await session.call('announce', { from: 5, to: 10 });
  assert.deepEqual(await replicas.streams(2), ['B', 'A']);
  await session.hears(10);
  await session.call('announce', { from: 10, to: 12 });
  await session.hears(12);
  assert.ok(
    replicas.log.some(request => /^GET A .+/.test(request)),
    'resumed on A with Last-Event-ID',
  );

  // The same with the stream of a call: its answer comes on the stream that resumes it.
  await session.call('test_reconnection');
  await session.answers();
  await session.count();

  // Somebody ends the session; its next request, on whichever replica, says so, and the client starts anew.
  const ended = transport.sessionId;
  assert.equal((await remove(replicas, transport)).status, 200);
  const after = await ask(replicas, 'A', ended);
  assert.equal(after.status, 404);
  assert.equal((await after.json()).error.code, -32001);
  await assert.rejects(session.count(1), refusal => refusal instanceof StreamableHTTPError && refusal.code === 404);
  await session.close();

  const next = connect();
  const anew = await Conversation.start(next);
  assert.notEqual(next.sessionId, ended);
  await anew.count();

  // The SDK's own way to end a session.
  const last = next.sessionId;
  await next.terminateSession();
  assert.equal((await ask(replicas, 'A', last)).status, 404);
  await anew.close();
}

function remove(replicas, transport) {
  const headers = { 'mcp-session-id': transport.sessionId, 'mcp-protocol-version': transport.protocolVersion };
  return fetch(replicas.url('B', '/mcp'), { method: 'DELETE', headers });
}

function ask(replicas, replica, session) {
  return fetch(replicas.url(replica, '/mcp'), {
    method: 'POST',
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-session-id': session,
      'mcp-protocol-version': '2025-11-25',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/list' }),
  });
}
