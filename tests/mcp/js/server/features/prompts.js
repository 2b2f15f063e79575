// Prompts, one of which completes its arguments and one of which asks first.

import { acceptedContent, completable, inputRequired } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { PNG } from './content.js';

const Context = z.object({ context: z.string() });
const WORDS = ['hello', 'paris', 'park', 'party', 'test', 'testing', 'world'];

const user = content => ({ role: 'user', content });
const say = text => user({ type: 'text', text });

export function registerPrompts(server) {
  server.registerPrompt('test_simple_prompt', { description: 'Text alone' }, () => ({
    messages: [say('This is a simple prompt for testing.')],
  }));

  const word = description =>
    completable(z.string().describe(description), start => WORDS.filter(other => other.startsWith(start)));
  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'Two arguments', argsSchema: z.object({ arg1: word('The first'), arg2: word('The second') }) },
    ({ arg1, arg2 }) => ({ messages: [say(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)] }),
  );

  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'A resource', argsSchema: z.object({ resourceUri: z.string().describe('Which one') }) },
    ({ resourceUri }) => ({
      messages: [
        user({
          type: 'resource',
          resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' },
        }),
        say('Please process the embedded resource above.'),
      ],
    }),
  );

  server.registerPrompt('test_prompt_with_image', { description: 'An image' }, () => ({
    messages: [user({ type: 'image', data: PNG, mimeType: 'image/png' }), say('Please analyze the image above.')],
  }));

  server.registerPrompt('test_input_required_result_prompt', { description: 'Asks first' }, ctx => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_context', Context);
    if (answer) return { messages: [say(`With this in mind: ${answer.context}`)] };
    const message = 'What context should the prompt use?';
    return inputRequired({
      inputRequests: { user_context: inputRequired.elicit({ message, requestedSchema: Context }) },
    });
  });
}
