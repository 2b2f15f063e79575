// What tools answer with.

export function text(value) {
  return { content: [{ type: 'text', text: value }] };
}
