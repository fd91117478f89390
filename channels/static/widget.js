/**
 * The web chat: one custom element with a shadow root. No build, no dependency, nothing inline.
 *
 *   <script src="https://chat.example/widget.js" data-channel="shop-web" async></script>
 *
 * puts it on any page; data-mode="page" fills the page. data-lang (zh, en) and data-theme (light, dark) overrule the
 * browser's. Its looks are CSS variables that the page may set: see widget.css. What a person, a document or a model
 * wrote becomes text nodes, never markup.
 */
(() => {
  "use strict";
  const script = document.currentScript ?? document.querySelector("script[data-channel][src*='widget.js']");
  const BASE = new URL(".", script.src);
  const PAUSES_MS = [200, 500, 1000, 2000, 4000, 8000]; // between attempts to reach the server
  const POST_MS = 20000, QUIET_MS = 45000; // a request, or a stream, without a sign of life for this long is dead
  const MAX_POSTS = 5; // a server that says 5xx this often has failed; a missing network is waited for
  const FIRST = { // until the session brings the other sentences
    zh: { launch: "打开对话", close: "关闭对话", retry: "重试", unreachable: "暂时连不上，请检查网络后再试。" },
    en: { launch: "Open chat", close: "Close chat", retry: "Try again",
      unreachable: "The chat cannot be reached. Check your connection and try again." },
  };

  // --- nodes ---------------------------------------------------------------------------------------------------------

  /** A node: el("p.note", {title: "…", onclick: f}, "text", child). Attributes that are undefined or false are left out. */
  function el(name, attributes = {}, ...children) {
    const [tag, ...classes] = name.split(".");
    const node = document.createElement(tag);
    node.className = classes.join(" ");
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== undefined));
    return node;
  }

  const SHAPES = {
    bird: ["M15.9 19.3C11.4 17.8 6.6 14.2 4.4 9.4C8.6 9.4 12.8 11 15.4 13.8C16.2 15 17 16 17.7 16.9C17.2 17.8 16.6 18.6 15.9 19.3Z",
      "M18.4 16.4C14.4 13.6 11.2 8.4 11.2 2.6C17 4.6 21.2 8.6 22.4 12.9C20.9 13.7 19.5 14.9 18.4 16.4Z",
      "M2.5 24.5C8 24.6 13.8 22.4 17.6 17.4C20 14 23 12.2 26 12.4L30.2 14L26.8 15.6C26 20.6 21.4 25.2 14.8 26C10.4 26.6 6 26 2.5 24.5Z"],
    close: ["M9 9l14 14M23 9L9 23"], fresh: ["M25 15v9a2 2 0 0 1-2 2H8a2 2 0 0 1-2-2V9a2 2 0 0 1 2-2h9M13 19l1-4L25 4l3 3-11 11z"],
    send: ["M16 26V7M8 15l8-8 8 8"], stop: ["M9 11a2 2 0 0 1 2-2h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H11a2 2 0 0 1-2-2z"], down: ["M16 6v19M8 17l8 8 8-8"], done: ["M7 17l6 6L25 10"],
    copy: ["M11 11h14v14H11zM7 21V9a2 2 0 0 1 2-2h12"], again: ["M25 10v6h-6M25 16a9.5 9.5 0 1 0-2.5 6.5"],
    thumb_up: ["M6 14h4v11H6zM10 15l5-9c2 0 3.2 1.4 2.8 3.4L17 13h6.5a2 2 0 0 1 2 2.4l-1.6 8a2 2 0 0 1-2 1.6H10"],
    thumb_down: ["M6 18h4V7H6zM10 17l5 9c2 0 3.2-1.4 2.8-3.4L17 19h6.5a2 2 0 0 0 2-2.4l-1.6-8a2 2 0 0 0-2-1.6H10"],
  };

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 32 32");
    svg.setAttribute("class", `icon icon-${name}`);
    svg.setAttribute("aria-hidden", "true");
    for (const shape of SHAPES[name]) {
      const path = document.createElementNS(svg.namespaceURI, "path");
      path.setAttribute("d", shape);
      svg.append(path);
    }
    return svg;
  }

  const iconButton = (name, label, onclick, more = {}) =>
    el("button.quiet", { type: "button", "aria-label": label, title: label, onclick, ...more }, icon(name));

  // --- markdown: text → nodes, for what models and documents say -----------------------------------------------------

  const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
  const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
  const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
  const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])\s+(?=\S)/;
  const QUOTE = /^ {0,3}>\s?/;
  const DEEPEST = 6; // quotes in lists in quotes …: beyond this it is plain text

  /** The blocks of a text, each {source, build}: equal sources build equal nodes, so a growing text keeps its start. */
  function blocks(text, context, depth = 0) {
    const lines = text.split("\n"), found = [];
    let at = 0;
    const take = (goesOn) => {
      const from = at;
      do at++; while (at < lines.length && goesOn(lines[at], at));
      return lines.slice(from, at);
    };
    while (at < lines.length) {
      const from = at, line = lines[at];
      let match, build;
      if (!line.trim()) { at++; continue; }
      if ((match = FENCE.exec(line))) {
        const [, marks, language] = match;
        const code = take((other) => !other.trim().startsWith(marks) || other.trim().replaceAll(marks[0], "")).slice(1).join("\n");
        at++;
        build = () => codeBlock(code, language.trim(), context);
      } else if ((match = HEADING.exec(line))) {
        const [, marks, title] = match;
        at++;
        build = () => el(`h${Math.min(marks.length + 2, 6)}`, { dir: "auto" }, ...inline(title.replace(/\s#+\s*$/, ""), context));
      } else if (RULE.test(line)) {
        at++;
        build = () => el("hr");
      } else if (QUOTE.test(line) && depth < DEEPEST) {
        const quoted = take((other) => QUOTE.test(other)).map((other) => other.replace(QUOTE, "")).join("\n");
        build = () => el("blockquote", { dir: "auto" }, ...blocks(quoted, context, depth + 1).map((block) => block.build()));
      } else if (isTable(lines, at)) {
        const rows = take((other) => other.includes("|"));
        build = () => tableBlock(rows, context);
      } else if (ITEM.test(line) && depth < DEEPEST) {
        const items = take((other, index) => inList(other, lines[index - 1], lines[index + 1] ?? ""));
        build = () => listBlock(items, context, depth);
      } else {
        const prose = take((other, index) => other.trim() && !startsBlock(other) && !isTable(lines, index)).join("\n");
        build = () => el("p", { dir: "auto" }, ...inline(prose, context));
      }
      found.push({ source: lines.slice(from, at).join("\n"), build });
    }
    return found;
  }

  function startsBlock(line) {
    return [FENCE, HEADING, RULE, QUOTE, ITEM].some((start) => start.test(line));
  }

  function isTable(lines, at) {
    const next = lines[at + 1] ?? "";
    return lines[at].includes("|") && /^[\s|:-]+$/.test(next) && next.includes("|") && next.includes("-");
  }

  function inList(line, before, after) {
    if (!line.trim()) return ITEM.test(after) || /^\s{2,}\S/.test(after); // an empty line within a list
    return ITEM.test(line) || /^\s{2,}/.test(line) || (before.trim() && !startsBlock(line));
  }

  function listBlock(lines, context, depth) {
    const [, indent, mark] = ITEM.exec(lines[0]);
    const ordered = /\d/.test(mark), items = [];
    const inner = new RegExp(`^\\s{1,${indent.length + mark.length + 1}}`);
    for (const line of lines) {
      const item = ITEM.exec(line);
      if (item && item[1].length < indent.length + 2) items.push([line.slice(item[0].length)]);
      else items[items.length - 1].push(line.replace(inner, ""));
    }
    return el(ordered ? "ol" : "ul", { dir: "auto", start: ordered && Number.parseInt(mark, 10) }, ...items.map((item) => {
      const nodes = blocks(item.join("\n"), context, depth + 1).map((block) => block.build());
      if (nodes[0]?.tagName === "P") nodes.splice(0, 1, ...nodes[0].childNodes); // a short item needs no paragraph
      return el("li", { dir: "auto" }, ...nodes);
    }));
  }

  function tableBlock([head, , ...rows], context) {
    const cells = (line) => line.trim().replaceAll("\\|", "\0").replace(/^\||\|$/g, "").split("|")
      .map((cell) => inline(cell.replaceAll("\0", "|").trim(), context));
    const titles = cells(head);
    const row = (found) => el("tr", {}, ...titles.map((_, column) => el("td", { dir: "auto" }, ...(found[column] ?? []))));
    return el("div.wide", { role: "region", tabindex: 0, "aria-label": context.say("table") }, el("table", { dir: "auto" },
      el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col", dir: "auto" }, ...title)))),
      el("tbody", {}, ...rows.map(cells).map(row))));
  }

  function codeBlock(code, language, context) {
    const copy = iconButton("copy", context.say("copy"), () => context.copy(code, copy));
    return el("div.code", {}, el("div.bar", {}, el("span", {}, language || context.say("code")), copy),
      el("pre", { tabindex: 0, dir: "ltr" }, el("code", {}, code)));
  }

  const ADDRESS = String.raw`\(\s*<?([^\s()<>]{1,2000}(?:\([^\s()<>]{0,200}\)[^\s()<>]{0,500})?)>?(?:\s+"[^"\n]{0,300}")?\s*\)`;
  const INLINE = [ // [pattern, what it becomes]; tried in order where a special character stands
    [/\\([\\`*_{}[\]()#+.!|>~-])/y, ([, character]) => character],
    [/(`{1,8})(?!`)([^]{0,2000}?[^`])\1(?!`)/y, ([, , code]) => el("code", {}, code.trim() || code)],
    [new RegExp(String.raw`!\[([^\]\n]{0,300})\]${ADDRESS}`, "y"), ([whole, alt, url], context) => image(whole, alt, url, context)],
    [new RegExp(String.raw`\[((?:[^[\]\n]|\[[^[\]\n]{0,100}\]){1,300})\]${ADDRESS}`, "y"),
      ([whole, text, url], context, depth) => link(whole, url, inline(text, context, depth + 1))],
    [/\[(\d{1,2})\]/y, ([whole, number], context) => context.cite(Number(number), whole)],
    [/<?(https?:\/\/[!#-;=?-~]{1,2000})>?/iy, ([whole, url]) => bareLink(whole, url)],
    [/(\*\*|__)(?=\S)([^]{0,2000}?\S)\1(?!\*)/y, ([, , text], context, depth) => el("strong", {}, ...inline(text, context, depth + 1))],
    [/~~(?=\S)([^]{0,1000}?\S)~~/y, ([, text], context, depth) => el("del", {}, ...inline(text, context, depth + 1))],
    [/\*(?=[^\s*])([^]{0,1000}?[^\s*])\*(?!\*)|_(?=[^\s_])([^]{0,1000}?[^\s_])_(?![\w])/y,
      ([, star, line], context, depth) => el("em", {}, ...inline(star ?? line, context, depth + 1))],
  ];

  /** A line of text as nodes and strings. */
  function inline(text, context, depth = 0) {
    if (depth > DEEPEST) return [text];
    const special = /[\\`![<*_~\n]|https?:\/\//gi, nodes = [];
    let from = 0, match;
    while ((match = special.exec(text))) {
      const at = match.index;
      if (match[0] === "\n") {
        nodes.push(text.slice(from, at).trimEnd(), el("br"));
        special.lastIndex = from = at + 1;
        continue;
      }
      const isSingle = match[0] === "_" || (match[0] === "*" && text[at + 1] !== "*");
      if (isSingle && /\w/.test(text[at - 1] ?? "")) continue; // snake_case, 2*3*4
      for (const [pattern, become] of INLINE) {
        pattern.lastIndex = at;
        const found = pattern.exec(text), end = pattern.lastIndex;
        const node = found && become(found, context, depth);
        if (!node) continue;
        nodes.push(text.slice(from, at), ...[node].flat());
        special.lastIndex = from = node.className === "cite" ? end + keepTogether(nodes, text[end] ?? "") : end;
        break;
      }
    }
    nodes.push(text.slice(from));
    return nodes.filter((node) => node !== "");
  }

  /** Keep a source's number, the last of nodes, on one line with the character before it and a stop after it: its length. */
  function keepTogether(nodes, next) {
    const [before, cite] = nodes.splice(-2), words = before.trimEnd(), last = Array.from(words.slice(-2)).pop() ?? "";
    const stop = /[.,;:!?…，。；：！？、)）]/.test(next) ? next : "";
    nodes.push(words.slice(0, words.length - last.length), el("span.together", {}, last, cite, stop));
    return stop.length;
  }

  function safeUrl(text) {
    try {
      const url = new URL(text);
      return ["http:", "https:"].includes(url.protocol) ? url : null;
    } catch { return null; }
  }

  function link(source, address, children) {
    const url = safeUrl(address);
    if (!url) return source; // shown as it was written
    return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, ...children);
  }

  function bareLink(source, address) {
    const url = source.startsWith("<") ? address : address.replace(/[.,;:!?'"*_~\]]+$/, "").replace(/^([^(]*)\)+$/, "$1");
    return [link(url, url, [url]), source.startsWith("<") ? "" : address.slice(url.length)];
  }

  function image(source, alt, address, context) {
    const url = safeUrl(address);
    const shownAsLink = () => link(source, address, [alt || address]);
    if (!url || !context.imageHosts.includes(url.hostname)) return shownAsLink();
    const picture = el("img", { src: url.href, alt, loading: "lazy", referrerpolicy: "no-referrer" });
    picture.addEventListener("error", () => picture.replaceWith(shownAsLink()));
    return picture;
  }

  /** What has arrived of an answer, so that a mark whose other half is still on its way does not flash up as text. */
  function heal(text) {
    if ((text.match(/^ {0,3}(```|~~~)/gm) ?? []).length % 2) return text; // within code
    const from = text.lastIndexOf("\n\n") + 1;
    let last = text.slice(from);
    if (/^\s*\|[^\n]*(\n[\s:|-]*)?$/.test(last)) return text.slice(0, from); // a table's head: wait for its second line
    last = last.replace(/!?\[[^\]\n]{0,80}(\](\([^)\s]{0,500})?)?$/, "").replace(/(^|[\s（(])[*_`~]{1,3}$/, "$1")
      .replace(/\n\s*([-*+#>]+|\d{1,3}[.)]?)\s*$/, "");
    if ((last.match(/\*\*/g) ?? []).length % 2) last = last.replace(/\*$/, "") + "**";
    if ((last.match(/`/g) ?? []).length % 2) last += "`";
    return text.slice(0, from) + last;
  }

  // --- the server ----------------------------------------------------------------------------------------------------

  /** Why a request failed. status 0: no answer came. retryAfter: seconds, where the server said so. */
  class Failure extends Error {
    constructor(status, { message = "", code = "" } = {}, retryAfter = 0) {
      super(message);
      Object.assign(this, { status, code, retryAfter });
    }
  }

  const store = { // a browser may forbid storage: then a visit lasts as long as the page
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* nothing is lost but the return */ } },
  };

  class Server {
    constructor(channel, locale) {
      Object.assign(this, { channel, locale, key: `qingniao:${BASE.href}:${channel}` });
      this.token = store.get(this.key);
    }

    /** Start or resume the visitor's session; isNew begins another conversation. Raises Failure, as all here do. */
    async open(isNew = false) {
      const body = { token: this.token ?? undefined, new: isNew || undefined, locale: this.locale };
      const session = await this.post(`${encodeURIComponent(this.channel)}/sessions`, body);
      store.set(this.key, this.token = session.token);
      return session;
    }

    async post(path, body, signal) {
      const patience = patienceOf(signal, POST_MS);
      try {
        return await (await this.request(path, patience.signal, { method: "POST", body: JSON.stringify(body) })).json();
      } catch (error) {
        throw error instanceof Failure ? error : new Failure(0);
      } finally {
        patience.end();
      }
    }

    /** A turn's events after number `last`, each {id, event, data}, until the stream ends. */
    async *events(turnId, last, signal) {
      const patience = patienceOf(signal, QUIET_MS);
      try {
        const response = await this.request(`turns/${turnId}/events`, patience.signal, {}, last ? { "Last-Event-ID": last } : {});
        const reader = response.body.getReader(), decoder = new TextDecoder();
        for (let buffer = ""; ;) {
          const { done, value } = await reader.read();
          if (done) return;
          patience.renew();
          const parts = (buffer + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
          buffer = parts.pop();
          yield* parts.map(parseEvent).filter((event) => event.data);
        }
      } catch (error) {
        throw error instanceof Failure ? error : new Failure(0);
      } finally {
        patience.end();
      }
    }

    async request(path, signal, options, headers) {
      const response = await fetch(new URL(`api/chat/${path}`, BASE), { signal, cache: "no-store", credentials: "omit", ...options,
        headers: { "Content-Type": "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }), ...headers } });
      if (response.ok) return response;
      const { error } = await response.json().catch(() => ({})); // a proxy's error page is no JSON
      throw new Failure(response.status, error, Number(response.headers.get("Retry-After")) || 0);
    }
  }

  /** A signal that aborts when `signal` does, or when there was no renew() for ms. */
  function patienceOf(signal, ms) {
    const control = new AbortController(), end = () => { clearTimeout(timer); control.abort(); };
    let timer;
    const renew = () => { clearTimeout(timer); timer = setTimeout(end, ms); };
    renew();
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end, { once: true });
    return { signal: control.signal, renew, end };
  }

  /** One event of a stream; without data for a comment. Source: HTML, "Interpreting an event stream". */
  function parseEvent(text) {
    const fields = { event: "message" };
    for (const line of text.split(/\r?\n/)) {
      const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
      fields[name] = name === "data" && fields.data !== undefined ? `${fields.data}\n${value}` : value;
    }
    return { id: Number(fields.id) || 0, event: fields.event, data: fields.data && JSON.parse(fields.data) };
  }

  // --- an answer on the page -----------------------------------------------------------------------------------------

  /** One answer: grows while it streams, then gets its sources and buttons. `question` is the text it answers. */
  class Answer {
    constructor(chat, turnId, question) {
      Object.assign(this, { chat, turnId, question, text: "", drawn: [], citations: [], finished: false, say: chat.say });
      this.body = el("div.text");
      this.note = el("p.status", {}, icon("bird"), this.stage = el("span"));
      this.node = el("article.answer.live", {}, el("span.hidden", {}, `${chat.title}: `), this.body, this.note);
      this.context = { ...chat.context, cite: (number, source) => this.cite(number, source) };
    }

    show(stage) {
      this.stage.textContent = stage;
      this.note.hidden = !stage;
    }

    set(text) {
      this.text = text;
      if (text) this.show("");
      this.frame ??= requestAnimationFrame(() => { this.frame = null; if (!this.finished) this.draw(heal(this.text)); });
    }

    draw(text) {
      const next = blocks(text, this.context);
      let same = 0;
      while (same < next.length && next[same].source === this.drawn[same]?.source) same++;
      for (const { node } of this.drawn.splice(same)) node.remove();
      this.drawn.push(...next.slice(same).map(({ source, build }) => ({ source, node: build() })));
      this.body.append(...this.drawn.slice(same).map(({ node }) => node));
    }

    /** The number n in the text: a button that opens its source, or before the sources are known its place. */
    cite(number, source) {
      const citation = this.citations.find(({ n }) => n === number);
      if (!citation && this.finished) return source;
      return citation ? this.sourceButton("button.cite", citation, String(number)) : el("span.cite", {}, String(number));
    }

    sourceButton(name, citation, ...children) {
      return el(name, { type: "button", "aria-label": this.say("source", citation), title: citation.title, "aria-haspopup": "dialog",
        onclick: (event) => this.chat.openSource(citation, event.currentTarget) }, ...children);
    }

    /** The whole answer has come: {text, citations?, finish?, rating?, error?}; error is the sentence to show. */
    finish({ text, citations = [], finish = "stop", rating, error = "" }) {
      Object.assign(this, { text, citations, finished: true, rating });
      this.show("");
      this.node.classList.remove("live");
      for (const { node } of this.drawn.splice(0)) node.remove();
      this.draw(text);
      if (finish === "stopped" || finish === "length") this.node.append(el("p.remark", {}, this.say(finish)));
      if (citations.length) {
        this.node.append(el("div.sources", { role: "group", "aria-label": this.say("sources") },
          el("span", { "aria-hidden": "true" }, this.say("sources")), ...citations.map((citation) =>
            this.sourceButton("button.source", citation, el("b", {}, String(citation.n)), el("span", { dir: "auto" }, citation.title)))));
      }
      this.node.append(finish === "error" ? this.chat.failure(error, () => this.chat.ask(this.question)) : this.toolbar());
    }

    toolbar() {
      const cited = (mark, n) => this.citations.some((citation) => citation.n === Number(n)) ? "" : mark;
      const copy = iconButton("copy", this.say("copy"), () => this.chat.copy(this.text.replace(/ ?\[(\d{1,2})\]/g, cited), copy));
      this.thumbs = ["up", "down"].map((rating) =>
        iconButton(`thumb_${rating}`, this.say(rating), () => this.rate(rating), { "data-rating": rating }));
      this.markRating();
      const again = iconButton("again", this.say("again"), () => this.chat.ask(this.question), { "data-again": true });
      return el("div.tools", {}, copy, ...this.thumbs, again);
    }

    markRating() {
      for (const thumb of this.thumbs) thumb.setAttribute("aria-pressed", String(thumb.dataset.rating === this.rating));
    }

    async rate(rating, comment) {
      const before = this.rating;
      this.rating = rating;
      this.markRating();
      this.node.querySelector(".comment")?.remove();
      try {
        await this.chat.server.post(`turns/${this.turnId}/feedback`, { rating, comment });
        if (rating === "down" && comment === undefined) this.askWhy();
        else this.chat.announce(this.say("thanks"));
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure;
        this.rating = before;
        this.markRating();
        this.chat.announce(this.say("not_saved"), true);
      }
    }

    askWhy() {
      const label = this.say("comment"), input = el("input", { maxlength: 1000, dir: "auto", placeholder: label, "aria-label": label });
      const submit = (event) => {
        event.preventDefault();
        this.thumbs[1].focus();
        this.rate("down", input.value.trim());
      };
      this.node.append(el("form.comment", { onsubmit: submit }, input, el("button.plain", {}, this.say("comment_send"))));
      input.focus();
    }
  }

  // --- the chat ------------------------------------------------------------------------------------------------------

  class QingniaoChat extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return;
      const locale = (this.getAttribute("lang") || navigator.language).startsWith("zh") ? "zh" : "en";
      this.texts = FIRST[locale];
      this.say = (key, values = {}) => (this.texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name]);
      this.server = new Server(this.getAttribute("channel"), locale);
      this.isPage = this.getAttribute("mode") === "page";
      this.panel = el("section.panel", { role: this.isPage ? "main" : "dialog", "aria-label": this.say("launch"), hidden: !this.isPage });
      this.launcher = el("button.launcher", { type: "button", "aria-label": this.say("launch"), "aria-expanded": "false",
        onclick: () => this.toggle(this.panel.hidden) }, icon("bird"));
      const parts = this.isPage ? [this.panel] : [this.panel, this.launcher];
      this.root = el(`div.root.${this.isPage ? "page" : "float"}`, { lang: locale, hidden: true }, ...parts);
      const ready = () => { this.root.hidden = false; };
      const style = el("link", { rel: "stylesheet", href: new URL("static/chat/widget.css", BASE), onload: ready, onerror: ready });
      this.attachShadow({ mode: "open" }).append(style, this.root);
      this.listen();
      if (this.isPage) this.start();
    }

    listen() {
      const dark = matchMedia("(prefers-color-scheme: dark)");
      const paint = () => this.root.classList.toggle("dark", (this.getAttribute("theme") || (dark.matches ? "dark" : "light")) === "dark");
      dark.addEventListener("change", paint);
      new MutationObserver(paint).observe(this, { attributeFilter: ["theme"] });
      paint();
      addEventListener("offline", () => this.lost());
      addEventListener("online", () => this.busy ? this.redial() : this.regained());
      const fit = () => this.root.style.setProperty("--view", `${visualViewport.height}px`); // what a phone's keyboard leaves
      globalThis.visualViewport?.addEventListener("resize", fit);
      for (const type of ["keydown", "keyup", "keypress"]) this.root.addEventListener(type, (event) => this.onKey(event));
    }

    onKey(event) {
      event.stopPropagation(); // the page's own shortcuts are not meant
      if (event.type !== "keydown" || event.key !== "Escape" || event.isComposing) return;
      if (this.sheet && !this.sheet.hidden) this.closeSource();
      else if (!this.isPage) this.toggle(false);
    }

    toggle(open) {
      this.panel.hidden = !open;
      this.launcher.setAttribute("aria-expanded", String(open));
      if (!open) this.launcher.focus();
      else if (!this.session) this.start();
      else this.focusInput();
    }

    focusInput() { // not on a phone: that would call up its keyboard
      (matchMedia("(hover: hover)").matches ? this.input : this.scroller).focus({ preventScroll: true });
    }

    header(...children) {
      return el("header", {}, ...children, this.isPage ? "" : iconButton("close", this.say("close"), () => this.toggle(false)));
    }

    /** Start or resume the session and show it; isNew: with an empty conversation. */
    async start(isNew = false) {
      if (!this.session) this.panel.replaceChildren(this.header(el("h2")), el("div.loading", {}, icon("bird")));
      try {
        this.session = await this.server.open(isNew);
      } catch (failure) {
        const message = failure.message || this.say("unreachable");
        if (this.session) this.announce(message, true);
        else this.panel.lastChild.replaceChildren(this.failure(message, () => this.start(isNew), failure.retryAfter));
        return;
      }
      this.leave();
      this.texts = this.session.texts;
      this.bot = this.session.bot;
      this.title = this.bot.title;
      this.context = { say: this.say, imageHosts: this.bot.image_hosts,
        copy: (text, button) => this.copy(text, button), cite: (_, source) => source };
      this.panel.setAttribute("aria-label", this.title);
      if (this.isPage) document.title = this.title;
      this.furnish();
      this.recall(this.session);
      if (isNew || !this.isPage && !this.panel.hidden) this.focusInput();
    }

    furnish() {
      const { say, bot } = this;
      this.log = el("div.log", { role: "log", "aria-live": "polite", "aria-label": say("log") });
      this.pending = el("div.pending", { "aria-live": "off" }); // what still grows is read out when it is whole
      const suggested = this.asking(bot.suggested_questions.slice(0, 3));
      this.suggestions = el("div.suggestions", { role: "group", "aria-label": say("suggested") }, ...suggested);
      this.chips = el("div.chips", { role: "group", "aria-label": say("followups"), hidden: true });
      const opening = blocks(bot.opening || this.title, this.context).map((block) => block.build());
      const size = opening.length > 1 || bot.opening.length > 60 ? ".long" : "";
      const column = el("div.column", {}, el("div.flight", {}, icon("bird")), el(`div.text.opening${size}`, {}, ...opening),
        this.suggestions, this.log, this.pending, this.chips);
      this.scroller = el("div.scroller", { tabindex: 0, role: "group", "aria-label": say("log"), onscroll: () => this.onScroll(),
        onpointerdown: () => { this.sheet.hidden = true; } }, column);
      new ResizeObserver(() => this.keepUp()).observe(column);
      const toEnd = () => { this.keepUp(true); this.focusInput(); };
      this.jump = el("button.jump", { type: "button", hidden: true, onclick: toEnd }, icon("down"), say("newest"));
      this.banner = el("p.banner", { role: "status" });
      this.sheet = el("aside.sheet", { role: "dialog", hidden: true, tabindex: -1 });
      const ownMark = (event) => event.target.replaceWith(icon("bird"));
      const face = { src: bot.avatar, alt: "", referrerpolicy: "no-referrer", onerror: ownMark };
      const avatar = safeUrl(bot.avatar) ? el("img", face) : icon("bird");
      this.panel.replaceChildren(
        this.header(el("span.mark", {}, avatar), el(this.isPage ? "h1" : "h2", { dir: "auto" }, this.title),
          iconButton("fresh", say("new"), () => this.start(true))),
        this.banner, el("div.middle", {}, this.scroller, this.jump), this.composer(), this.sheet);
    }

    composer() {
      const { say } = this;
      const onkeydown = (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: composing, in Safari
        event.preventDefault();
        if (!this.busy) this.submit();
      };
      this.input = el("textarea", { rows: 1, dir: "auto", placeholder: say("placeholder"), "aria-label": say("input"), enterkeyhint: "send",
        oninput: () => this.onInput(), onkeydown });
      this.counter = el("p.counter", { "aria-live": "polite" });
      this.button = el("button.send", { type: "button", onclick: () => this.busy ? this.stop() : this.submit() });
      this.onInput();
      return el("div.composer", {}, el("div.box", {}, this.input, this.button), this.counter, el("p.notice", {}, say("notice")));
    }

    onInput() {
      const limit = this.session.limits.max_chars, over = Array.from(this.input.value).length - limit;
      this.input.style.height = "auto";
      if (this.input.value) this.input.style.height = `${this.input.scrollHeight}px`;
      const isNear = over > -limit / 10;
      this.counter.textContent = over > 0 ? this.say("too_long", { over, limit }) : isNear ? this.say("left", { left: -over }) : "";
      this.counter.classList.toggle("over", over > 0);
      this.input.setAttribute("aria-invalid", String(over > 0));
      this.canSend = over <= 0 && Boolean(this.input.value.trim());
      const label = this.say(this.busy ? "stop" : "send");
      if (this.button.title !== label) this.button.replaceChildren(icon(this.busy ? "stop" : "send"));
      this.button.title = label;
      this.button.setAttribute("aria-label", label);
      this.button.setAttribute("aria-disabled", String(!this.busy && !this.canSend));
    }

    submit() {
      if (!this.canSend) return;
      const text = this.input.value.trim();
      this.input.value = "";
      this.ask(text);
    }

    /** Show what was said before, and go on with an answer that is still in progress. */
    recall({ messages, active_turn_id: active }) {
      let question = "";
      for (const message of messages) {
        if (message.role === "user") {
          this.log.append(this.said(question = message.text));
        } else {
          const answer = new Answer(this, message.turn_id, question);
          answer.finish(message);
          this.log.append(answer.node);
        }
      }
      this.suggestions.hidden = messages.length > 0;
      if (active) this.watch(this.begin(new Answer(this, active, question), "waiting"));
      else this.offer(messages[messages.length - 1]?.followups ?? []);
      this.keepUp(true);
    }

    said(text) {
      return el("article.question", {}, el("span.hidden", {}, `${this.say("you")}: `), el("div.said", { dir: "auto" }, text));
    }

    ask(text) {
      if (this.busy) return;
      this.suggestions.hidden = true;
      this.offer([]);
      const question = { text, id: newId(), node: this.said(text) };
      this.log.append(question.node);
      this.keepUp(true);
      this.focusInput();
      this.deliver(question);
    }

    /** Post a question and watch its answer. A repeat carries the same id, so that it is answered once. */
    async deliver(question) {
      question.node.querySelector(".failure")?.remove();
      const answer = this.begin(new Answer(this, null, question.text), "sending"), run = this.run;
      try {
        answer.turnId = (await this.post(question, run)).turn_id;
      } catch (failure) {
        if (run !== this.run) return; // another conversation was begun
        answer.node.remove();
        this.rest();
        question.node.append(this.failure(failure.message || this.say("failed"), () => this.deliver(question), failure.retryAfter));
        return;
      }
      if (run === this.run) await this.watch(answer);
    }

    async post({ text, id }, run) {
      for (let tries = 0; ; tries++) {
        try {
          const accepted = await this.server.post("messages", { text, client_message_id: id }, run.connection.signal);
          this.regained();
          return accepted;
        } catch (failure) {
          if (run.over) throw failure;
          if ((failure.status === 401 || failure.code === "unknown_conversation") && !tries) {
            await this.server.open(); // the token, or the conversation, is too old: the question begins a new conversation
            this.announce(this.say("expired"));
          } else if (failure.status >= 500 ? tries + 1 >= MAX_POSTS : failure.status) throw failure;
          await this.pause(run, tries);
        }
      }
    }

    begin(answer, stage) {
      this.run = { over: false, connection: new AbortController() };
      this.busy = answer;
      answer.show(this.say(stage));
      this.pending.replaceChildren(answer.node);
      this.onInput();
      return answer;
    }

    rest() {
      this.busy = null;
      this.onInput();
    }

    /** Follow a turn's events to their end, over as many connections as it takes. */
    async watch(answer) {
      const run = this.run;
      for (let last = 0, tries = 0; !run.over; tries++) {
        try {
          for await (const event of this.server.events(answer.turnId, last, run.connection.signal)) {
            if (run.over) return;
            tries = 0;
            this.regained();
            if (event.id > last || ["done", "error", "end"].includes(event.event)) this.hear(answer, event);
            last = Math.max(last, event.id);
            run.over ||= event.event === "end";
          }
        } catch (failure) {
          if (!(failure instanceof Failure)) throw failure;
          if (failure.status >= 400 && failure.status < 500) break; // not there any more: the session knows how it ended
        }
        if (!run.over) await this.pause(run, tries);
      }
      for (let tries = 2; run === this.run && !answer.finished; tries++) {
        await this.pause(run, tries);
        if (run === this.run) await this.start();
      }
    }

    hear(answer, { event, data }) {
      if (event === "followups") this.offer(data.questions);
      if (answer.finished) return;
      if (event === "status") answer.show(this.texts[data.stage.replace(/:.*/, "")] ?? this.say("waiting"));
      if (event === "delta") answer.set(answer.text + data.text);
      if (event === "replace") answer.set(data.text);
      if (event !== "done" && event !== "error") return;
      const said = answer.text.trim(), error = data.message?.replace(said, "").trim() || this.say("failed");
      answer.finish(event === "done" ? data : { text: said, finish: "error", error });
      this.log.append(answer.node); // from the quiet part to the log, which is read out
      this.rest();
    }

    async stop() {
      if (!this.busy.turnId) {
        this.run.over = true;
        return this.redial();
      }
      await this.server.post(`turns/${this.busy.turnId}/stop`, {})
        .catch((failure) => this.announce(failure.message || this.say("unreachable"), true));
    }

    /** Turn away from the answer that is watched. */
    leave() {
      if (this.run) this.run.over = true;
      this.redial();
      this.run = this.busy = null;
    }

    redial() {
      this.run?.connection.abort();
      this.run?.wake?.();
    }

    async pause(run, tries) {
      if (tries || !navigator.onLine) this.lost();
      await new Promise((done) => {
        run.wake = done;
        setTimeout(done, PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)] * (0.75 + Math.random() / 2));
      });
      run.connection = new AbortController();
    }

    lost() {
      this.isLost = true;
      this.announce(this.say("lost"), true, null);
    }

    regained() {
      if (this.isLost) this.announce(this.say("regained"));
      this.isLost = false;
    }

    asking(questions) {
      return questions.map((text) => el("button", { type: "button", dir: "auto", onclick: () => this.ask(text) }, text));
    }

    offer(questions) {
      this.chips.hidden = !questions.length;
      this.chips.replaceChildren(...this.asking(questions));
    }

    /** What went wrong, and a button to try again, after retryAfter seconds. */
    failure(message, retry, retryAfter = 0) {
      const button = el("button.plain", { type: "button", onclick: retry }), end = Date.now() + retryAfter * 1000;
      const tick = () => {
        const seconds = Math.ceil((end - Date.now()) / 1000);
        button.disabled = seconds > 0;
        button.textContent = this.say(seconds > 0 ? "retry_in" : "retry", { seconds });
        if (seconds > 0) setTimeout(tick, 250);
      };
      tick();
      return el("div.failure", { role: "alert" }, message ? el("p", {}, message) : "", button);
    }

    openSource(citation, opener) {
      const url = safeUrl(citation.url);
      this.opener = opener;
      this.sheet.setAttribute("aria-label", this.say("source", citation));
      this.sheet.replaceChildren(
        el("div.bar", {}, el("b", {}, String(citation.n)), el("h3", { dir: "auto" }, citation.title),
          iconButton("close", this.say("source_close"), () => this.closeSource())),
        el("blockquote", { dir: "auto", tabindex: 0 }, citation.snippet), url ? link("", url.href, [this.say("source_open")]) : "");
      this.sheet.hidden = false;
      this.sheet.focus();
    }

    closeSource() {
      this.sheet.hidden = true;
      this.opener.focus();
    }

    async copy(text, button) {
      const copied = await copyText(text).catch(() => false);
      this.announce(this.say(copied ? "copied" : "not_copied"), !copied);
      if (!copied) return;
      button.replaceChildren(icon("done"));
      setTimeout(() => button.replaceChildren(icon("copy")), 2000);
    }

    /** A word above the conversation, read out too; shown_ms null: until the next one. */
    announce(text, isError = false, shown_ms = 4000) {
      if (!this.banner) return;
      clearTimeout(this.bannerTimer);
      this.banner.textContent = text;
      this.banner.classList.toggle("error", isError);
      if (shown_ms) this.bannerTimer = setTimeout(() => { this.banner.textContent = ""; }, shown_ms);
    }

    onScroll() {
      this.isAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 80;
      this.jump.hidden = this.isAtEnd;
    }

    /** Stay with the newest, unless the reader has scrolled away from it. */
    keepUp(always = false) {
      this.isAtEnd ||= always;
      if (this.isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
      else this.onScroll();
    }
  }

  async function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true);
    const area = el("textarea", { readonly: true }, text); // without https there is only the old way
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }

  function newId() { // crypto.randomUUID is only there with https
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  if (!customElements.get("qingniao-chat")) customElements.define("qingniao-chat", QingniaoChat);
  const { channel, mode, lang, theme } = script.dataset;
  const chat = el("qingniao-chat", { channel, mode, lang, theme });
  if (document.body) document.body.append(chat);
  else addEventListener("DOMContentLoaded", () => document.body.append(chat), { once: true });
})();
