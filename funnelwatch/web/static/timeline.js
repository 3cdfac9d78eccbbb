// The time line: lines by uPlot (a global of its script), incidents shaded, what is still counting marked.

import { el, keyed, say, table } from "./dom.js";
import { clock, count, moment, named, percent } from "./format.js";
import { concerns, ofConversion } from "./states.js";

const HEIGHT = 300;
const COLOURS = 6;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class TimeLine {
  constructor(nodes) {
    Object.assign(this, nodes); // chart, legend, reading, table
    this.focus = null;
    this.shades = [];
    new ResizeObserver(() => this.plot?.setSize({ width: this.chart.clientWidth, height: HEIGHT })).observe(this.chart);
    document.addEventListener("themechange", () => this.plot?.redraw(false));
    this.chart.addEventListener("keydown", (event) => this.key(event));
    this.chart.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
  }

  /** The messages `history` and `alerts`, and which step is selected (null: all). */
  show(history, alerts, focus, now) {
    this.history = history;
    this.focus = focus;
    this.partial = history.partial_from;
    this.lines = history.series.filter((line) => (focus == null ? line.os == null : line.step === focus));
    this.shades = alerts.filter(ofConversion).filter((alert) => focus == null || concerns(alert, focus))
      .map((alert) => ({ from: alert.started, to: alert.resolved ?? now, open: alert.resolved == null }));
    const names = this.lines.map((line) => this.name(line));
    const shape = JSON.stringify([focus, names]);
    const data = this.data();
    if (this.shape === shape && this.plot) this.plot.setData(data);
    else this.make(shape, data);
    this.chart.setAttribute("aria-label", this.summary(names));
    this.legends();
    this.rows(names);
  }

  name(line) {
    if (this.focus == null) return named(line.step);
    return line.os == null ? "All" : named(line.os);
  }

  /** uPlot's columns: times in s; of each line its rate, its rate while still counting, and what is expected. */
  data() {
    const { starts, every_ms: every } = this.history;
    const open = starts.findIndex((start) => this.partial != null && start >= this.partial);
    const end = open < 0 ? starts.length : open;
    const columns = [starts.map((start) => (start + every / 2) / 1000)];
    this.lines.forEach((line) => {
      columns.push(line.rate.map((rate, at) => (at < end ? rate : null)));
      columns.push(line.rate.map((rate, at) => (at >= end - 1 && open >= 0 ? rate : null)));
      columns.push(line.expected);
    });
    const whole = this.lines[0];
    if (this.focus != null && whole) {
      columns.push(whole.low.map((low, at) => (at < end ? low : null)));
      columns.push(whole.high.map((high, at) => (at < end ? high : null)));
    }
    return columns;
  }

  make(shape, data) {
    this.plot?.destroy();
    this.shape = shape;
    const series = [{}];
    this.lines.forEach((line, at) => {
      const colour = () => css(`--line-${at % COLOURS}`);
      const width = this.focus != null && line.os == null ? 3 : 2;
      series.push({ stroke: colour, width, points: { show: false }, spanGaps: false });
      series.push({ stroke: colour, width: 1.5, dash: [2, 4], points: { show: false } });
      series.push({ stroke: () => css("--faint"), width: 1.2, dash: [7, 5], points: { show: false } });
    });
    const bands = [];
    if (this.focus != null && this.lines.length) {
      series.push({ stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } });
      bands.push({ series: [series.length - 1, series.length - 2], fill: () => css("--band") });
    }
    const axis = { stroke: () => css("--muted"), font: "13px system-ui, sans-serif", ticks: { show: false } };
    this.plot = new uPlot({
      width: this.chart.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      padding: [14, 26, 0, 0],
      scales: { y: { range: (plot, low, high) => [Math.max(0, Math.floor(((low ?? 0) - 0.04) * 10) / 10), Math.max(1, Math.min(high ?? 1, 1.2))] } },
      axes: [
        { ...axis, grid: { show: false }, values: (plot, ticks) => ticks.map((tick) => clock(tick * 1000)), space: 70 },
        { ...axis, grid: { stroke: () => css("--grid"), width: 1 }, values: (plot, ticks) => ticks.map((tick) => percent(tick, 0)), size: 58 },
      ],
      series,
      bands,
      hooks: { drawClear: [(plot) => this.shade(plot)], draw: [(plot) => this.ends(plot)], setCursor: [(plot) => this.read(plot)] },
    }, data, this.chart);
  }

  /** Incidents and what is still counting, behind the lines. */
  shade(plot) {
    const { ctx, bbox } = plot;
    const across = (ms) => Math.min(Math.max(plot.valToPos(ms / 1000, "x", true), bbox.left), bbox.left + bbox.width);
    ctx.save();
    for (const { from, to } of this.shades) {
      const [left, right] = [across(from), across(to)];
      if (right <= bbox.left || left >= bbox.left + bbox.width) continue;
      ctx.fillStyle = css("--incident");
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2 * devicePixelRatio), bbox.height);
      ctx.fillStyle = css("--alert");
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2 * devicePixelRatio), 3 * devicePixelRatio);
      ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.fillText("▼", left, bbox.top - 3 * devicePixelRatio);
    }
    if (this.partial != null) {
      const left = across(this.partial);
      ctx.fillStyle = css("--partial");
      ctx.fillRect(left, bbox.top, bbox.left + bbox.width - left, bbox.height);
    }
    ctx.restore();
  }

  /** A number at the end of each line, so that colour is not the only difference. */
  ends(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `bold ${12 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    const marks = [];
    this.lines.forEach((line, at) => {
      const open = (start) => this.partial != null && start >= this.partial;
      const whole = line.rate.findLastIndex((rate, place) => rate != null && !open(this.history.starts[place]));
      const last = whole >= 0 ? whole : line.rate.findLastIndex((rate) => rate != null);
      if (last >= 0) marks.push({ at, y: plot.valToPos(line.rate[last], "y", true) });
    });
    marks.sort((a, b) => a.y - b.y);
    marks.forEach((mark, at) => {
      if (at) mark.y = Math.max(mark.y, marks[at - 1].y + 13 * devicePixelRatio);
      ctx.fillStyle = css(`--line-${mark.at % COLOURS}`);
      ctx.fillText(this.mark(mark.at), bbox.left + bbox.width + 6 * devicePixelRatio, mark.y);
    });
    ctx.restore();
  }

  mark(at) {
    return this.focus == null ? String(at + 1) : "abcdefghijklmnopqrstuvwxyz"[at] ?? "";
  }

  legends() {
    const lines = this.lines.map((line, at) => ({ key: `line-${at}`, at, text: `${this.mark(at)} ${this.name(line)}` }));
    const kinds = { expected: "expected", shade: "▼ incident", open: "still counting", ...(this.focus == null ? {} : { interval: "95 % interval" }) };
    const items = [...lines, ...Object.entries(kinds).map(([key, text]) => ({ key, text }))];
    keyed(this.legend, items, ({ key }) => key,
      () => el("li", {}, el("span", { class: "swatch", "aria-hidden": "true" }), el("span", { class: "legend-name" })),
      (node, { key, at, text }) => {
        node.querySelector(".swatch").classList.toggle(key, at == null);
        if (at != null) node.querySelector(".swatch").style.background = `var(--line-${at % COLOURS})`;
        say(node.querySelector(".legend-name"), text);
      });
  }

  /** What stands under the cursor. */
  read(plot) {
    const at = plot.cursor.idx;
    if (at == null || plot.cursor.left < 0) {
      say(this.reading, "");
      return;
    }
    const { starts, every_ms: every } = this.history;
    const values = this.lines.map((line, place) => `${this.mark(place)} ${this.name(line)} ${percent(line.rate[at])} of ${percent(line.expected[at], 0)}`);
    const open = this.partial != null && starts[at] >= this.partial ? " (still counting)" : "";
    say(this.reading, `${clock(starts[at])} – ${clock(starts[at] + every)}${open}: ${values.join(" · ")}`);
  }

  /** Arrow keys move the cursor. */
  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !this.plot) return;
    event.preventDefault();
    const last = this.history.starts.length - 1;
    const at = Math.min(Math.max((this.plot.cursor.left >= 0 && this.plot.cursor.idx != null ? this.plot.cursor.idx : last) + move, 0), last);
    this.plot.setCursor({ left: this.plot.valToPos(this.plot.data[0][at], "x"), top: 10 });
  }

  summary(names) {
    const { starts, every_ms: every } = this.history;
    const shaded = this.shades.length ? `, ${this.shades.length} incident${this.shades.length > 1 ? "s" : ""} shaded` : "";
    return `Rates of ${names.join(", ")} from ${clock(starts[0])} to ${clock(starts.at(-1) + every)} UTC${shaded}. Arrow keys read it; the table below has all numbers.`;
  }

  rows(names) {
    const { starts, every_ms: every } = this.history;
    const rows = starts.map((start, at) => [
      `${moment(start, starts.at(-1))}${this.partial != null && start >= this.partial ? " (still counting)" : ""}`,
      ...this.lines.flatMap((line) => [
        line.low[at] == null ? percent(line.rate[at]) : `${percent(line.rate[at])} [${percent(line.low[at], 0)} – ${percent(line.high[at], 0)}]`,
        percent(line.expected[at]), count(line.impressions[at])]),
    ]).reverse();
    table(this.table, `Rates by ${every / 1000} s, newest first; UTC`,
      ["From", ...names.flatMap((name) => [name, "expected", "impressions"])], rows);
  }
}
