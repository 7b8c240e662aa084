// The search of a page that was opened as a file: browsers start no Worker from file://, so a hidden frame stands in for it.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve) => {
        const script = (address) =>
          `new Promise((done) => { const s = document.createElement("script"); s.src = ${address}; s.onload = done; document.head.append(s); })`;
        this.frame.srcdoc =
          "<!doctype html><html><head></head><body><script>" +
          "window.postMessage = (data) => parent.dispatchEvent(new MessageEvent('frame', { data, source: window }));" +
          `window.importScripts = (...all) => all.reduce((before, one) => before.then(() => ${script("one")}), Promise.resolve());` +
          `importScripts(${JSON.stringify(new URL(url, location).href)}).then(() => parent.dispatchEvent(new MessageEvent("frame", { data: "ready", source: window })));` +
          "<\/script></body></html>";
        window.addEventListener("frame", (event) => {
          if (event.source !== this.frame.contentWindow) return;
          if (event.data === "ready") return resolve();
          const message = new MessageEvent("message", { data: event.data });
          this.dispatchEvent(message);
          if (this.onmessage) this.onmessage(message);
        });
      });
      (document.body || document.documentElement).append(this.frame);
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
