// What a client of any transport does with its session.

import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  LoggingMessageNotificationSchema,
  ProgressNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { until } from './replicas.js';

const CALLS = 50;

export class Conversation {
  announced = [];
  progress = [];
  #client = new Client(
    { name: 'berth-test-client', version: '1.0.0' },
    { capabilities: { sampling: {}, elicitation: {} } },
  );
  #server;
  #calls = 0;

  static async start(transport) {
    const conversation = new Conversation();
    const client = conversation.#client;
    client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => ({
      role: 'assistant',
      content: { type: 'text', text: `you said: ${params.messages[0].content.text}` },
      model: 'none',
    }));
    client.setRequestHandler(ElicitRequestSchema, () => ({
      action: 'accept',
      content: { username: 'ada', email: 'ada@example.test' },
    }));
    client.setNotificationHandler(
      LoggingMessageNotificationSchema,
      ({ params }) => void conversation.announced.push(params.data),
    );
    // Not by the option `onprogress`: the SDK drops progress that comes in one piece with the answer.
    client.setNotificationHandler(
      ProgressNotificationSchema,
      ({ params }) => void conversation.progress.push([params.progressToken, params.progress]),
    );
    await client.connect(transport);
    return conversation;
  }

  async call(name, args = {}, meta = undefined) {
    const { content, isError } = await this.#client.callTool({ name, arguments: args, _meta: meta });
    assert.ok(!isError, `${name}: ${content[0].text}`);
    return content[0].text;
  }

  // Each call is the next one on the same server.
  async count(times = CALLS) {
    for (let call = 0; call < times; call++) {
      const { server, calls } = JSON.parse(await this.call('count'));
      if (!this.#server) console.log(`answered by ${server}`);
      this.#server ??= server;
      assert.deepEqual({ server, calls }, { server: this.#server, calls: ++this.#calls });
    }
  }

  // Messages that are no answer to anything come in order, each once.
  async hears(to) {
    await until(`${to} announced numbers`, () => this.announced.length >= to);
    assert.deepEqual(
      this.announced,
      Array.from({ length: to }, (_, number) => number),
    );
  }

  async progresses() {
    this.progress = [];
    const expected = [0, 50, 100].map(progress => ['token', progress]);
    await this.call('test_tool_with_progress', {}, { progressToken: 'token' });
    await until('progress in three steps', () => this.progress.length >= expected.length);
    assert.deepEqual(this.progress, expected);
  }

  // The server asks, the client answers, in the middle of a call.
  async answers() {
    assert.equal(await this.call('test_sampling', { prompt: 'hello' }), 'LLM response: you said: hello');
    assert.equal(
      await this.call('test_elicitation', { message: 'Who are you?' }),
      'User response: action=accept, content={"username":"ada","email":"ada@example.test"}',
    );
  }

  close() {
    return this.#client.close();
  }
}
