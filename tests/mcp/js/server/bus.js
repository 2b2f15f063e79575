// Change events for the streams of subscriptions/listen. Without sessions a call and a stream of one client may be with
// two servers, so that servers of one deployment share their events, over a channel of Redis.

import { createClient } from '@redis/client';
import { InMemoryServerEventBus } from '@modelcontextprotocol/server';

const CHANNEL = 'mcp-test-server:events';

export async function createBus(url) {
  const local = new InMemoryServerEventBus(error => console.error(error));
  if (!url) return local;
  const publisher = await connect(url);
  const subscriber = await connect(url);
  await subscriber.subscribe(CHANNEL, text => local.publish(JSON.parse(text)));
  return {
    publish: event => void publisher.publish(CHANNEL, JSON.stringify(event)).catch(error => console.error(error)),
    subscribe: listener => local.subscribe(listener),
  };
}

async function connect(url) {
  const client = createClient({ url });
  client.on('error', error => console.error(error));
  await client.connect();
  return client;
}
