// Tools that answer with content of each kind.

import { text } from './results.js';

// One gray pixel, and a millisecond of silence.
export const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==';
const WAV = 'UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==';

const image = { type: 'image', data: PNG, mimeType: 'image/png' };

export function registerContent(server) {
  const answers = (name, description, content) => server.registerTool(name, { description }, () => ({ content }));

  answers('test_simple_text', 'Answers with text', text('This is a simple text response for testing.').content);
  answers('test_image_content', 'Answers with an image', [image]);
  answers('test_audio_content', 'Answers with sound', [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }]);
  answers('test_embedded_resource', 'Answers with a resource', [
    {
      type: 'resource',
      resource: {
        uri: 'test://embedded-resource',
        mimeType: 'text/plain',
        text: 'This is an embedded resource content.',
      },
    },
  ]);
  answers('test_multiple_content_types', 'Answers with text, an image and a resource', [
    { type: 'text', text: 'Multiple content types test:' },
    image,
    {
      type: 'resource',
      resource: {
        uri: 'test://mixed-content-resource',
        mimeType: 'application/json',
        text: JSON.stringify({ test: 'data', value: 123 }),
      },
    },
  ]);

  server.registerTool('test_error_handling', { description: 'Fails, always' }, () => {
    throw new Error('This tool intentionally returns an error for testing');
  });
}
