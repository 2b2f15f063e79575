// The events of one session's streams, for clients that resume. Only the process that wrote them has them.

export class EventLog {
  #events = [];

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return String(this.#events.length);
  }

  async getStreamIdForEventId(id) {
    return this.#events[Number(id) - 1]?.stream;
  }

  async replayEventsAfter(last, { send }) {
    const stream = await this.getStreamIdForEventId(last);
    for (let index = Number(last); index < this.#events.length; index++) {
      const event = this.#events[index];
      // A priming event has an id and no message.
      if (event.stream === stream && event.message.jsonrpc) await send(String(index + 1), event.message);
    }
    return stream;
  }
}
