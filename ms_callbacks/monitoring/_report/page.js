"use strict";
// The charts of a report, and its switches for language and theme. Everything that a user has named is set as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const SVG = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 4", "4 2"];
  const SHAPES = [
    (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
    (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    (x, y, r) => `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`,
    (x, y, r) => `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
    (x, y, r) => `M${x} ${y + 1.2 * r}l${1.2 * r} ${-2.1 * r}h${-2.4 * r}z`,
    (x, y, r) => `M${x - r} ${y}h${2 * r}M${x} ${y - r}v${2 * r}`,
  ];
  const NARROW = 480, MOST_MARKED = 100, RIGHT = 14, TOP = 14, BOTTOM = 26;

  const say = (key) => data.texts[root.lang === "en" ? "en" : "zh"][key];
  const rounded = (value) => Math.round(value * 100) / 100;

  function made(name, attributes, parent, text) {
    const isDrawn = parent instanceof SVGElement || name === "svg";
    const element = isDrawn ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  }

  function shown(value) {
    if (value === null || value === undefined) return say("none");
    if (typeof value === "string") return value.replace("Infinity", "∞");
    const size = Math.abs(value);
    if (value !== 0 && (size < 1e-3 || size >= 1e6)) {
      return value.toExponential(4).replace(/\.?0+e/, "e").replace("e+", "e");
    }
    return String(Number(value.toPrecision(6)));
  }

  // Ticks

  function steps(low, high, count, isWhole) {
    const raw = (high - low) / Math.max(count, 1) || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    let step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
    if (isWhole) step = Math.max(1, Math.round(step));
    const ticks = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) {
      ticks.push(Number((index * step).toPrecision(12)));
    }
    return ticks;
  }

  function decades(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const factor of [1, 2, 5]) {
        const tick = Number((factor * 10 ** power).toPrecision(12));
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    const whole = ticks.filter((each) => Math.abs(Math.log10(each) % 1) < 1e-9);
    const kept = ticks.length > 6 && whole.length > 1 ? whole : ticks;
    return kept.filter((_, index) => index % Math.ceil(kept.length / 6) === 0);
  }

  // Charts

  class Chart {
    constructor(panel, index) {
      this.panel = panel;
      this.isLog = false;
      this.active = null;
      this.figure = document.getElementById(`panel-${index}`);
      this.figure.hidden = false;
      for (const one of panel.series) {
        one.at = one.at || data.points.map((_, place) => place);
        one.by = new Map(one.at.map((place, position) => [place, one.y[position]]));
      }
      this.places = [...new Set(panel.series.flatMap((one) => one.at))].sort((a, b) => a - b);
      this.makeCaption(index);
      this.plot = made("div", {
        class: "plot", tabindex: 0, role: "slider", "aria-labelledby": `caption-${index} legend-${index}`, "aria-describedby": "curves-hint",
        "aria-valuemin": 0, "aria-valuemax": this.places.length - 1, "aria-orientation": "horizontal",
      }, this.figure);
      this.svg = made("svg", { "aria-hidden": "true", focusable: "false" }, this.plot);
      this.tip = made("div", { class: "tip", "aria-hidden": "true" }, this.plot);
      this.tip.hidden = true;
      this.plot.addEventListener("pointermove", (event) => this.point(event));
      this.plot.addEventListener("pointerdown", (event) => this.point(event));
      this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && choose(null));
      this.plot.addEventListener("keydown", (event) => this.press(event));
      this.plot.addEventListener("blur", () => choose(null));
    }

    makeCaption(number) {
      const caption = this.figure.querySelector("figcaption");
      // The title names the only series.
      const isNamed = this.panel.series.length === 1 && ["training", "rate"].includes(this.panel.kind);
      const isMany = this.panel.series.length > 3;
      const legend = made("ul", { class: isMany ? "legend many" : "legend", id: `legend-${number}` }, caption);
      (isNamed ? [] : this.panel.series).forEach((one, index) => {
        const item = made("li", {}, legend);
        sample(item, styleOf(one, index), isShort(one));
        made("bdi", {}, item, one.name);
      });
      const finite = this.panel.series.flatMap((one) => one.y).filter((y) => typeof y === "number" && y > 0);
      const least = finite.reduce((a, b) => Math.min(a, b), Infinity);
      const most = finite.reduce((a, b) => Math.max(a, b), 0);
      if (this.panel.log && most > 100 * least) {
        this.button = made("button", { type: "button", "aria-pressed": "false", class: "log" }, caption);
        this.button.addEventListener("click", () => {
          this.isLog = !this.isLog;
          this.button.setAttribute("aria-pressed", String(this.isLog));
          draw();
        });
      }
    }

    // The range of larger values would be infinite.
    isDrawn(y) {
      return typeof y === "number" && Math.abs(y) < 1e300 && (!this.isLog || y > 1e-300);
    }

    // The range of the values, and their ticks
    measure(height) {
      const values = this.panel.series.flatMap((one) => one.y).filter((y) => this.isDrawn(y));
      let low = values.reduce((a, b) => Math.min(a, b), Infinity);
      let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
      if (!values.length) [low, high] = this.isLog ? [0.1, 1] : [0, 1];
      if (this.isLog) {
        [low, high] = [low / 1.15, high * 1.15];
        this.ticks = decades(low, high);
        if (this.ticks.length < 2) this.ticks = steps(low, high, 4, false).filter((tick) => tick > 0);
      } else {
        const room = (high - low) * 0.07 || Math.abs(high) * 0.1 || 1;
        // A scale that almost reaches 0 begins there; values that are never negative have no negative ticks.
        const isPositive = low >= 0;
        [low, high] = [low - room, high + room];
        if (isPositive && low < high * 0.15) low = 0;
        this.ticks = steps(low, high, height / 45, false);
      }
      [this.low, this.high] = [low, high];
      this.labels = this.ticks.map((tick) => shown(tick));
      return Math.max(52, Math.max(...this.labels.map((label) => label.length)) * 7 + 14);
    }

    draw(left) {
      const width = this.width, height = this.height;
      const span = [left, width - RIGHT];
      const scale = (value) => (this.isLog ? Math.log(value) : value);
      const [low, high] = [scale(this.low), scale(this.high)];
      this.y = (value) => rounded(height - BOTTOM - ((scale(value) - low) / (high - low)) * (height - TOP - BOTTOM));
      this.x = (value) => rounded(span[0] + ((value - data.from) / (data.to - data.from)) * (span[1] - span[0]));
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.ticks.forEach((tick, index) => {
        made("line", { class: "grid", x1: span[0], x2: span[1], y1: this.y(tick), y2: this.y(tick) }, this.svg);
        made("text", { x: span[0] - 8, y: this.y(tick) + 4, "text-anchor": "end" }, this.svg, this.labels[index]);
      });
      for (const tick of steps(data.from, data.to, (span[1] - span[0]) / 70, true)) {
        made("text", { x: this.x(tick), y: height - 8, "text-anchor": "middle" }, this.svg, tick);
      }
      made("text", { x: span[0] - 14, y: height - 8, "text-anchor": "end" }, this.svg, say("epoch"));
      this.panel.series.forEach((one, index) => this.drawSeries(one, index));
      this.cursor = made("g", {}, this.svg);
      if (this.button) this.button.textContent = say("log_scale");
      this.describe();
    }

    drawSeries(one, index) {
      const style = styleOf(one, index), colour = `c${(style % 6) + 1}`;
      // A mark at each point, or at some of a long curve, where those of the next curve are elsewhere.
      const every = isShort(one) ? 1 : Math.ceil(one.y.length / 10);
      const first = Math.round((every * (index + 0.5)) / this.panel.series.length) % every;
      const shift = (index - (this.panel.series.length - 1) / 2) * 9;
      let path = "", marks = "", crosses = "", missing = "";
      one.at.forEach((place, position) => {
        const x = this.x(data.points[place][0]), value = one.y[position];
        if (!this.isDrawn(value)) {
          if (value === null) missing += `M${x + shift / 3} ${this.height - BOTTOM - 6}v6`;
          else crosses += `M${x + shift - 4} ${TOP - 8}l8 8M${x + shift - 4} ${TOP}l8 -8`;
          return;
        }
        const y = this.y(value);
        const follows = position > 0 && this.isDrawn(one.y[position - 1]);
        const isAlone = !follows && !this.isDrawn(one.y[position + 1]);
        if (this.panel.steps) {
          const begin = Math.max(this.x(data.points[place][0] - 1), this.x(data.from));
          path += follows ? `V${y}H${x}` : `M${begin} ${y}H${x}`;
        } else {
          path += `${follows ? "L" : "M"}${x} ${y}`;
          if (position % every === first || isAlone) marks += SHAPES[style % 6](x, y, 3);
        }
      });
      const dashes = isShort(one) ? DASHES[style % 6] : "";
      made("path", { class: `curve ${colour}`, d: path, "stroke-dasharray": dashes }, this.svg);
      if (marks) made("path", { class: `mark ${colour}`, d: marks }, this.svg);
      if (crosses) made("path", { class: `mark cross nonfinite ${colour}`, d: crosses }, this.svg);
      if (missing) made("path", { class: `mark cross missing ${colour}`, d: missing }, this.svg);
      if (one.best !== undefined && this.isDrawn(one.by.get(one.best))) this.drawBest(one, colour);
    }

    drawBest(one, colour) {
      const x = this.x(data.points[one.best][0]), y = this.y(one.by.get(one.best));
      made("circle", { class: `hollow ${colour}`, cx: x, cy: y, r: 5 }, this.svg);
      const anchor = x > this.width - 50 ? "end" : "middle";
      const below = y < 24;
      made("text", { class: "best", x: anchor === "end" ? x + 8 : x, y: below ? y + 20 : y - 11, "text-anchor": anchor },
        this.svg, say("best_mark"));
    }

    // Reading values

    point(event) {
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.width;
      let nearest = null, least = Infinity;
      for (const place of this.places) {
        const distance = Math.abs(this.x(data.points[place][0]) - x);
        if (distance < least) [nearest, least] = [place, distance];
      }
      choose(nearest, this);
    }

    press(event) {
      const last = this.places.length - 1;
      const now = this.places.indexOf(this.active);
      const targets = {
        ArrowRight: now < 0 ? 0 : Math.min(now + 1, last), ArrowUp: now < 0 ? 0 : Math.min(now + 1, last),
        ArrowLeft: now < 0 ? last : Math.max(now - 1, 0), ArrowDown: now < 0 ? last : Math.max(now - 1, 0),
        PageUp: Math.min(Math.max(now, 0) + 10, last), PageDown: Math.max(now - 10, 0), Home: 0, End: last,
      };
      if (event.key === "Escape") choose(null);
      else if (event.key in targets) choose(this.places[targets[event.key]], this);
      else return;
      event.preventDefault();
    }

    place(place) {
      const [, epoch, step] = data.points[place];
      return step ? `${say("epoch")} ${epoch}, ${say("step")} ${step}` : `${say("epoch")} ${epoch}`;
    }

    values(place) {
      return this.panel.series
        .map((one, index) => ({ one, name: one.name, style: styleOf(one, index), value: one.by.get(place) }))
        .filter(({ one }) => one.by.has(place));
    }

    describe() {
      const place = this.active === null ? this.places[this.places.length - 1] : this.active;
      const words = this.values(place).map((one) => `${one.name} ${shown(one.value)}`);
      this.plot.setAttribute("aria-valuenow", this.places.indexOf(place));
      this.plot.setAttribute("aria-valuetext", `${this.place(place)}: ${words.join(", ")}`);
    }

    show(place, isSource) {
      this.active = place;
      this.cursor.replaceChildren();
      this.tip.hidden = true;
      if (place === null) return;
      const x = this.x(data.points[place][0]);
      made("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM }, this.cursor);
      for (const one of this.values(place)) {
        if (this.isDrawn(one.value)) {
          made("path", { class: `hollow c${(one.style % 6) + 1}`, d: SHAPES[one.style % 5](x, this.y(one.value), 4) }, this.cursor);
        }
      }
      if (!isSource) return;
      this.describe();
      this.tip.replaceChildren();
      made("strong", {}, this.tip, this.place(place));
      for (const one of this.values(place)) {
        const line = made("span", {}, this.tip);
        sample(line, one.style, isShort(one.one));
        made("bdi", {}, line, one.name);
        made("b", {}, line, shown(one.value));
      }
      this.tip.hidden = false;
      const ratio = this.plot.clientWidth / this.width;
      const isRight = x * ratio > this.plot.clientWidth / 2;
      const left = isRight ? x * ratio - this.tip.offsetWidth - 12 : x * ratio + 12;
      this.tip.style.left = `${Math.max(0, Math.min(left, this.plot.clientWidth - this.tip.offsetWidth))}px`;
    }
  }

  const styleOf = (one, index) => (one.style === undefined ? index : one.style);
  const isShort = (one) => one.y.length <= MOST_MARKED;

  function sample(parent, style, isDashed) {
    const svg = made("svg", { width: 26, height: 12, viewBox: "0 0 26 12", "aria-hidden": "true" }, parent);
    const colour = `c${(style % 6) + 1}`;
    made("path", { class: `curve ${colour}`, d: "M0 6H26", "stroke-dasharray": isDashed ? DASHES[style % 6] : "" }, svg);
    made("path", { class: `mark ${colour}`, d: SHAPES[style % 6](13, 6, 3) }, svg);
  }

  function choose(place, source) {
    for (const chart of charts) chart.show(place, chart === source);
  }

  function draw() {
    if (!charts.length) return;
    const lefts = {};  // by width: charts below one another have their axes in line
    for (const chart of charts) {
      chart.width = Math.max(240, chart.plot.clientWidth || 640);
      chart.height = (chart.width < NARROW ? 190 : 250) * (chart.panel.steps ? 0.62 : 1);
      lefts[chart.width] = Math.max(lefts[chart.width] || 0, chart.measure(chart.height));
    }
    for (const chart of charts) chart.draw(lefts[chart.width]);
  }

  const charts = data.panels.map((panel, index) => new Chart(panel, index));

  // Switches

  const language = document.getElementById("language"), theme = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  function label() {
    language.textContent = say("to_other_language");
    language.lang = root.lang === "en" ? "zh-CN" : "en";
    theme.textContent = say(isDark() ? "to_light" : "to_dark");
  }

  language.addEventListener("click", () => {
    root.lang = root.lang === "en" ? "zh-CN" : "en";
    label();
    choose(null);
    draw();
  });
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  prefersDark.addEventListener("change", label);
  document.getElementById("tools").hidden = false;
  for (const each of document.querySelectorAll("details[open]")) each.open = false;
  const hint = document.getElementById("curves-hint");
  if (hint) hint.hidden = false;
  label();
  draw();

  let width = 0;
  if (window.ResizeObserver) {
    new ResizeObserver(() => {
      const now = document.body.clientWidth;
      if (now !== width) {
        width = now;
        window.requestAnimationFrame(draw);
      }
    }).observe(document.body);
  }
})();
