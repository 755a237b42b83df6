// Histograms: the population along the main motion, and the distances between bodies.
"use strict";

(() => {
  const { svg, data } = K;

  function bins(values, low, high, wanted) {
    const count = new Float64Array(wanted);
    for (const v of values) {
      const k = Math.floor((v - low) / (high - low || 1) * wanted);
      if (k >= 0 && k < wanted) count[k] += 1;
    }
    return count;
  }

  function bars(root, count, x, y, low, high, base) {
    const step = (high - low) / count.length;
    count.forEach((c, k) => {
      if (!c) return;
      const left = x(low + k * step) + 0.5, width = Math.max(x(low + (k + 1) * step) - left - 0.5, 0.5);
      root.append(svg.make("rect", { class: "bar-mark", x: left, y: y(c), width, height: base - y(c), rx: 1.5 }));
    });
  }

  function population() {
    const values = data.population.values;
    const edges = data.population.edges;
    const from = edges[0], to = edges[edges.length - 1];
    const count = bins(values, from, to, edges.length - 1);
    const [molecules, fewest, most] = data.population.molecules.map((row) => row.map((share) => share * values.length));
    const top = Math.max(...count, ...most) * 1.16;
    const share = (c) => `${svg.label(100 * c / values.length)}%`;
    let here = null;
    let x = null;
    let base = 0;

    function draw(root, width, height) {
      const left = 40, right = width - 8;
      base = height - 44;
      x = svg.scale(from, to, left, right);
      const y = svg.scale(0, top, base, 8);
      svg.yAxis(root, (c) => y(c), 0, top, left, right, height / 70, share);
      bars(root, count, x, y, from, to, base);
      const step = (to - from) / count.length;
      const at = (k, c) => `${x(from + (k + 0.5) * step).toFixed(1)} ${y(c).toFixed(1)}`;
      const upper = most.map((c, k) => at(k, c)), lower = fewest.map((c, k) => at(k, c)).reverse();
      root.append(svg.make("path", { class: "interval", d: `M${[...upper, ...lower].join("L")}Z` }));
      root.append(svg.make("path", { class: "molecules", d: `M${molecules.map((c, k) => at(k, c)).join("L")}` }));
      svg.xAxis(root, x, from, to, base, right - left, "main motion (Å RMS of the whole molecule)");
      errorBar(root, x, right);
      here = svg.make("g");
      here.append(svg.make("line", { class: "here", x1: 0, x2: 0, y1: 14, y2: base }), svg.make("circle", { class: "here-dot", cx: 0, cy: 14, r: 4 }));
      root.append(here);
      mark(latest);
    }

    function errorBar(root, scale, right) {
      const length = Math.min(2 * data.population.error / (to - from) * (scale(to) - scale(from)), scale(to) - scale(from));
      if (!(length > 0)) return;
      const end = right - 4, start = end - length;
      for (const [x1, x2, y1, y2] of [[start, end, 16, 16], [start, start, 12, 20], [end, end, 12, 20]]) root.append(svg.make("line", { class: "error", x1, x2, y1, y2 }));
      root.append(svg.make("text", { x: end, y: 34, "text-anchor": "end" }, "± one particle’s error"));
    }

    let latest = K.stateOnPath(0, 0);
    function mark(state) {
      latest = state;
      if (!here || !("motion1" in state.place)) return;
      const v = Math.max(from, Math.min(to, state.place.motion1));
      here.setAttribute("transform", `translate(${x(v).toFixed(1)} 0)`);
    }

    svg.fill(document.getElementById("population"), draw);
    K.onShow(mark);
    const explained = Math.round(100 * data.population.explained);
    document.getElementById("population-note").textContent = `The main motion accounts for ${explained}% of all displacement (squared). Bars count images where their noise puts them; the line is the population with that noise taken out, the band its 90% interval. The bar in the corner is how far noise alone moves one particle. The red line is the structure shown.`;
  }

  function distances() {
    const home = document.getElementById("distances");
    for (const pair of data.distances) {
      const figure = document.createElement("figure");
      figure.className = "card multiple";
      const [a, b] = pair.bodies;
      figure.innerHTML = `<h3><span class="swatch" style="--swatch:var(--body-${Math.min(a, 9)})"></span> Body ${a} to <span class="swatch" style="--swatch:var(--body-${Math.min(b, 9)})"></span> body ${b}</h3><div class="plot"></div><p class="note bare"></p>`;
      home.append(figure);
      const low = K.percentile(pair.values, 0), high = K.percentile(pair.values, 1);
      const pad = Math.max(0.04 * (high - low), 0.05);
      const count = bins(pair.values, low - pad, high + pad, 28);
      svg.fill(figure.querySelector(".plot"), (root, width, height) => {
        const base = height - 22;
        const x = svg.scale(low - pad, high + pad, 2, width - 2);
        bars(root, count, x, svg.scale(0, Math.max(...count), base, 4), low - pad, high + pad, base);
        svg.xAxis(root, x, low - pad, high + pad, base, width, "");
      });
      const middle = K.percentile(pair.values, 0.5), early = K.percentile(pair.values, 0.05), late = K.percentile(pair.values, 0.95);
      figure.querySelector(".note").textContent = `Distance between centres: median ${middle.toFixed(1)} Å, 90% within ${early.toFixed(1)}–${late.toFixed(1)} Å.`;
    }
  }

  population();
  distances();
})();
