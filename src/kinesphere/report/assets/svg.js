// Marks and axes that the charts share.
"use strict";

K.svg = (() => {
  const SPACE = "http://www.w3.org/2000/svg";

  function make(name, attributes = {}, text = null) {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  }

  // Round steps of 1, 2 or 5 times a power of ten.
  function ticks(low, high, wanted) {
    const rough = (high - low) / Math.max(wanted, 1) || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
    const values = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) values.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return values;
  }

  function label(value) {
    const size = Math.abs(value);
    if (size >= 10000) return value.toLocaleString("en", { notation: "compact" });
    return size !== 0 && size < 0.001 ? value.toExponential(0) : String(+value.toPrecision(4)).replace("-", "−");
  }

  const scale = (low, high, from, to) => (v) => from + (v - low) / (high - low || 1) * (to - from);

  // Draws again whenever the box changes its size.
  function fill(box, draw) {
    const again = () => {
      const { clientWidth, clientHeight } = box;
      const style = getComputedStyle(box);
      const width = clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      const height = clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
      if (width < 40 || height < 40) return;
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
      draw(svg, width, height);
      box.querySelectorAll("svg").forEach((old) => old.remove());
      box.append(svg);
    };
    new ResizeObserver(again).observe(box);
    again();
    return again;
  }

  function xAxis(svg, x, low, high, y, width, name) {
    for (const v of ticks(low, high, width / 65)) {
      svg.append(make("line", { class: "axis", x1: x(v), x2: x(v), y1: y, y2: y + 4 }));
      svg.append(make("text", { x: x(v), y: y + 17, "text-anchor": "middle" }, label(v)));
    }
    svg.append(make("line", { class: "axis", x1: x(low), x2: x(high), y1: y, y2: y }));
    if (name) svg.append(make("text", { x: (x(low) + x(high)) / 2, y: y + 35, "text-anchor": "middle" }, name));
  }

  function yAxis(svg, y, low, high, left, right, wanted, format = label) {
    for (const v of ticks(low, high, wanted)) {
      svg.append(make("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }));
      svg.append(make("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, format(v)));
    }
  }

  return { make, ticks, label, scale, fill, xAxis, yAxis };
})();
