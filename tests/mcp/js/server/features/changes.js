// Tools that tell the clients of 2026-07-28 that a list has changed.

import { text } from './results.js';

export function registerChanges(server, bus) {
  for (const list of ['tool', 'prompt']) {
    server.registerTool(`test_trigger_${list}_change`, { description: `Tells that the ${list}s have changed` }, () => {
      bus.publish({ kind: `${list}s_list_changed` });
      return text('told');
    });
  }
}
