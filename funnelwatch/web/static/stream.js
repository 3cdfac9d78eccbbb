// Server-sent events that come back: after an error, after a restart of the server, after a silence.

const PARTS = ["now", "history", "people", "alerts", "health", "beat"];
const SILENCE_MS = 6000; // three beats
const AGAIN_MS = 1000;

/**
 * Listen to `address()`; `on(part, data)` for each message, `state(word)` when the link is "live" or "lost".
 * Returns a function that begins anew, for another address.
 */
export function listen(address, on, state) {
  let source = null;
  let heard = 0;
  let timer = null;

  function open() {
    clearTimeout(timer);
    source?.close();
    heard = performance.now();
    const mine = new EventSource(address());
    source = mine;
    for (const part of PARTS) {
      mine.addEventListener(part, (event) => {
        if (mine !== source) return;
        heard = performance.now();
        state("live");
        on(part, JSON.parse(event.data));
      });
    }
    mine.addEventListener("error", () => {
      if (mine !== source) return;
      state("lost");
      // A browser gives up when the answer is no stream, as from a proxy in between; we do not.
      if (mine.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN_MS);
    });
  }

  setInterval(() => {
    if (performance.now() - heard > SILENCE_MS) {
      state("lost");
      open();
    }
  }, 1000);
  addEventListener("online", open);
  open();
  return open;
}
