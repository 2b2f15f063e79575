// The server object that a session (or, in 2026-07-28, a request) is given: all that the conformance suite asks for.

import { randomBytes } from 'node:crypto';
import { createRequestStateCodec, McpServer } from '@modelcontextprotocol/server';
import { registerChanges } from './features/changes.js';
import { registerConversations } from './features/conversations.js';
import { registerContent } from './features/content.js';
import { registerInputRequired } from './features/input_required.js';
import { registerPrompts } from './features/prompts.js';
import { registerResources } from './features/resources.js';
import { registerSchemas } from './features/schemas.js';
import { registerSession } from './features/session.js';

const CAPABILITIES = {
  tools: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  prompts: { listChanged: true },
  logging: {},
  completions: {},
};

export function createServerFactory({ name, stateKey = randomBytes(32), bus }) {
  const state = createRequestStateCodec({ key: stateKey });
  return ({ era }) => {
    const options = { capabilities: CAPABILITIES, requestState: { verify: state.verify } };
    const server = new McpServer({ name: 'berth-test-server', version: '1.0.0' }, options);
    registerContent(server);
    registerConversations(server);
    registerInputRequired(server, state);
    registerSchemas(server);
    registerSession(server, name);
    registerChanges(server, bus);
    registerResources(server, era);
    registerPrompts(server);
    return server;
  };
}
