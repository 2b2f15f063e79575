// Tools that show which server holds a session, and whether it is the same one as before.

import { z } from 'zod';
import { text } from './results.js';

export function registerSession(server, name) {
  let calls = 0;
  server.registerTool('count', { description: 'Counts the calls of this session, and names the server' }, () =>
    text(JSON.stringify({ server: name, calls: ++calls })),
  );

  server.registerTool(
    'announce',
    {
      description: 'Logs numbers, not to the stream of this call but to the one that the client opened',
      inputSchema: z.object({ from: z.number().int(), to: z.number().int() }),
    },
    async ({ from, to }) => {
      for (let number = from; number < to; number++) {
        await server.server.notification({ method: 'notifications/message', params: { level: 'info', data: number } });
      }
      return text('announced');
    },
  );

  server.registerTool(
    'close_stream',
    { description: "Closes the stream that the client opened, as a server's end would", inputSchema: z.object({}) },
    (_arguments, ctx) => {
      ctx.http?.closeStandaloneSSE?.();
      return text('closed');
    },
  );
}
