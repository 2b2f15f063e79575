// Tools that end a round with questions, and go on when the client repeats the call with the answers (2026-07-28).

import { CLIENT_CAPABILITIES_META_KEY, acceptedContent, inputRequired } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { text } from './results.js';

const Name = z.object({ name: z.string() });
const Color = z.object({ color: z.string() });
const Ok = z.object({ ok: z.boolean() });

const ask = (message, requestedSchema) => inputRequired.elicit({ message, requestedSchema });
const sample = (prompt, maxTokens = 100) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens });

export function registerInputRequired(server, state) {
  const tool = (name, description, handle) =>
    server.registerTool(`test_${name}`, { description, inputSchema: z.object({}) }, (_arguments, ctx) => handle(ctx));

  tool('input_required_result_elicitation', 'Asks for a name', ctx => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_name', Name);
    if (answer) return text(`Hello, ${answer.name}!`);
    return inputRequired({ inputRequests: { user_name: ask('What is your name?', Name) } });
  });

  tool('input_required_result_sampling', "Asks the client's model", ctx => {
    const answer = ctx.mcpReq.inputResponses?.capital_question?.content?.text;
    if (answer) return text(answer);
    return inputRequired({ inputRequests: { capital_question: sample('What is the capital of France?') } });
  });

  tool('input_required_result_list_roots', "Asks for the client's roots", ctx => {
    const roots = ctx.mcpReq.inputResponses?.client_roots?.roots;
    if (Array.isArray(roots)) return text(`Roots: ${roots.map(root => root.uri).join(', ')}`);
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });

  const confirmed = async ctx => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'confirm', Ok);
    if (answer && ctx.mcpReq.requestState()?.step === 'confirm') return text('state-ok');
    const requestState = await state.mint({ step: 'confirm' });
    return inputRequired({ inputRequests: { confirm: ask('Please confirm', Ok) }, requestState });
  };
  tool('input_required_result_request_state', 'Asks, and has its state carried by the client', confirmed);
  tool('input_required_result_tampered_state', 'Refuses a state that was changed', confirmed);

  tool('input_required_result_multiple_inputs', 'Asks three things at once', async ctx => {
    const answers = ctx.mcpReq.inputResponses;
    const name = acceptedContent(answers, 'user_name', Name)?.name;
    const greeting = answers?.greeting?.content?.text;
    const roots = answers?.client_roots?.roots;
    if (name && greeting && roots) return text(`${greeting}, ${name}: ${roots.length} roots`);
    return inputRequired({
      inputRequests: {
        user_name: ask('What is your name?', Name),
        greeting: sample('Generate a greeting', 50),
        client_roots: inputRequired.listRoots(),
      },
      requestState: await state.mint({ step: 'all' }),
    });
  });

  tool('input_required_result_multi_round', 'Asks twice, one after the other', async ctx => {
    const answers = ctx.mcpReq.inputResponses;
    const known = ctx.mcpReq.requestState();
    const name = known?.name ?? (known && acceptedContent(answers, 'step1', Name)?.name);
    if (!name) {
      const inputRequests = { step1: ask('Step 1: What is your name?', Name) };
      return inputRequired({ inputRequests, requestState: await state.mint({ step: 1 }) });
    }
    const color = acceptedContent(answers, 'step2', Color)?.color;
    if (color) return text(`${name} likes ${color}.`);
    const inputRequests = { step2: ask('Step 2: What is your favorite color?', Color) };
    return inputRequired({ inputRequests, requestState: await state.mint({ step: 2, name }) });
  });

  tool('input_required_result_capabilities', 'Asks only what the client can answer', ctx => {
    const can = ctx.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
    const inputRequests = {
      ...(can.elicitation && { user_name: ask('What is your name?', Name) }),
      ...(can.sampling && { greeting: sample('Generate a greeting') }),
      ...(can.roots && { client_roots: inputRequired.listRoots() }),
    };
    const open = Object.keys(inputRequests).filter(key => !ctx.mcpReq.inputResponses?.[key]);
    return open.length === 0 ? text('Nothing left to ask.') : inputRequired({ inputRequests });
  });

  tool('missing_capability', 'Needs sampling', () => inputRequired({ inputRequests: { any: sample('Anything') } }));
  tool('streaming_elicitation', 'Logs, then asks', async ctx => {
    await ctx.mcpReq.log('info', 'About to ask');
    return inputRequired({ inputRequests: { confirm: ask('Go on?', Ok) } });
  });
}
