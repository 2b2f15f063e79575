// Tools that speak with the client while they run: messages, progress, questions, a stream that is closed half way.

import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { text } from './results.js';

const PAUSE_MS = 50;

export function registerConversations(server) {
  const logs = async (_arguments, ctx) => {
    await ctx.mcpReq.log('info', 'Tool execution started');
    await sleep(PAUSE_MS);
    await ctx.mcpReq.log('info', 'Tool processing data');
    await sleep(PAUSE_MS);
    await ctx.mcpReq.log('info', 'Tool execution completed');
    return text('Three messages were logged.');
  };
  const noArguments = { inputSchema: z.object({}) };
  server.registerTool('test_tool_with_logging', { description: 'Logs three messages', ...noArguments }, logs);
  server.registerTool('test_logging_tool', { description: 'Logs where the request allows it', ...noArguments }, logs);

  server.registerTool(
    'test_tool_with_progress',
    { description: 'Reports its progress in three steps', ...noArguments },
    async (_arguments, ctx) => {
      const { progressToken } = ctx.mcpReq._meta ?? {};
      for (const progress of [0, 50, 100]) {
        if (progress > 0) await sleep(PAUSE_MS);
        if (progressToken === undefined) continue;
        const params = { progressToken, progress, total: 100, message: `${progress} of 100` };
        await ctx.mcpReq.notify({ method: 'notifications/progress', params });
      }
      return text('All steps are done.');
    },
  );

  server.registerTool(
    'test_reconnection',
    { description: 'Closes the stream of its own call; the answer is for who resumes it', ...noArguments },
    async (_arguments, ctx) => {
      ctx.http?.closeSSE?.();
      await sleep(2 * PAUSE_MS);
      return text('The stream was closed, and resumed.');
    },
  );

  server.registerTool(
    'test_sampling',
    {
      description: "Asks the client's model",
      inputSchema: z.object({ prompt: z.string().describe('What to ask it') }),
    },
    async ({ prompt }, ctx) => {
      const messages = [{ role: 'user', content: { type: 'text', text: prompt } }];
      const { content } = await ask(ctx, 'sampling/createMessage', { messages, maxTokens: 100 });
      return text(`LLM response: ${content.text}`);
    },
  );

  const elicits = (name, description, message, properties, required) =>
    server.registerTool(name, { description, ...noArguments }, async (_arguments, ctx) =>
      elicited(ctx, 'Elicitation completed', message, { type: 'object', properties, required }),
    );

  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user', inputSchema: z.object({ message: z.string().describe('What to ask') }) },
    async ({ message }, ctx) =>
      elicited(ctx, 'User response', message, {
        type: 'object',
        properties: {
          username: { type: 'string', description: "User's response" },
          email: { type: 'string', description: "User's email address" },
        },
        required: ['username', 'email'],
      }),
  );
  elicits('test_elicitation_sep1034_defaults', 'Asks with a default for each type', 'Look over these values', {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  });
  const titled = values => values.map(([value, title]) => ({ const: value, title }));
  elicits('test_elicitation_sep1330_enums', 'Asks with each form of choice', 'Choose', {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: {
      type: 'string',
      oneOf: titled([
        ['value1', 'First Option'],
        ['value2', 'Second Option'],
        ['value3', 'Third Option'],
      ]),
    },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three'],
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: {
      type: 'array',
      items: {
        anyOf: titled([
          ['value1', 'First Choice'],
          ['value2', 'Second Choice'],
          ['value3', 'Third Choice'],
        ]),
      },
    },
  });
}

async function elicited(ctx, answer, message, requestedSchema) {
  const { action, content } = await ask(ctx, 'elicitation/create', { message, requestedSchema });
  return text(`${answer}: action=${action}, content=${JSON.stringify(content ?? {})}`);
}

// On the stream of the call, which is there: requestSampling and elicitInput of the SDK use the one that the client
// opens for itself, which may come later than the call.
function ask(ctx, method, params) {
  return ctx.mcpReq.send({ method, params });
}
