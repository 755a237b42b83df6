// The chains: bodies, segment boundaries and hinges as a coloured bar, and each residue's displacement below it.
"use strict";

(() => {
  const home = document.getElementById("sequence");
  const { model, svg, data } = K;
  const SHOWN_CHAINS = 8;
  const LEFT = 46, RIGHT = 6, TRACK_TOP = 20, TRACK = 20, CURVE = 62;
  const HEIGHT = TRACK_TOP + TRACK + 26 + CURVE + 8;
  const hingeRows = new Map(data.hinges.map((hinge) => [hinge.row, hinge.label]));

  // Polymer residues of each chain; ligands have no place in a sequence.
  const chains = model.chains.map((name, number) => ({
    name, rows: Array.from(model.chain.keys()).filter((r) => model.chain[r] === number && model.kind[r] !== "o"),
  })).filter((chain) => chain.rows.length);
  const longest = Math.max(...chains.map((chain) => chain.rows.length));
  const top = Math.max(...chains.flatMap((chain) => chain.rows.map((r) => model.amplitude[r])), 0.1);

  function runs(rows, of) {
    const found = [];
    rows.forEach((r, i) => {
      const previous = found[found.length - 1];
      if (previous && previous.value === of(r)) previous.end = i + 1;
      else found.push({ start: i, end: i + 1, value: of(r) });
    });
    return found;
  }

  function drawChain(chain, root, width) {
    const { rows } = chain;
    // Chains keep their relative lengths, but short ones stay readable.
    const span = Math.max(rows.length / longest, 0.25) * (width - LEFT - RIGHT);
    const x = svg.scale(0, rows.length, LEFT, LEFT + span);
    const base = TRACK_TOP + TRACK + 26 + CURVE;
    const y = svg.scale(0, top, base, base - CURVE);
    root.append(svg.make("text", { class: "chain-name", x: 0, y: TRACK_TOP + 15 }, chain.name));
    for (const run of runs(rows, (r) => model.body[r])) {
      root.append(svg.make("rect", { x: x(run.start), y: TRACK_TOP, width: x(run.end) - x(run.start), height: TRACK, fill: K.groupColour(run.value) }));
    }
    for (const run of runs(rows, (r) => model.segment[r]).slice(1)) {
      root.append(svg.make("line", { class: "boundary", x1: x(run.start), x2: x(run.start), y1: TRACK_TOP, y2: TRACK_TOP + TRACK }));
    }
    rows.forEach((r, i) => {
      if (!hingeRows.has(r)) return;
      const at = x(i + 1);
      const mark = svg.make("path", { class: "hinge", d: `M${at - 5} ${TRACK_TOP - 10}h10l-5 8z` });
      mark.append(svg.make("title", {}, `Hinge ${hingeRows.get(r)}`));
      root.append(mark);
    });
    numbers(chain, root, x);
    for (const v of svg.ticks(0, top, 2)) {
      root.append(svg.make("line", { class: "grid", x1: LEFT, x2: LEFT + span, y1: y(v), y2: y(v) }));
      root.append(svg.make("text", { x: LEFT - 7, y: y(v) + 4, "text-anchor": "end" }, v ? `${svg.label(v)} Å` : "0"));
    }
    const line = rows.map((r, i) => `${x(i + 0.5).toFixed(1)},${y(model.amplitude[r]).toFixed(1)}`).join("L");
    root.append(svg.make("path", { class: "area", d: `M${x(0.5)},${base}L${line}L${x(rows.length - 0.5)},${base}Z` }));
    root.append(svg.make("path", { class: "area-line", d: `M${line}` }));
    return { x, span };
  }

  function numbers(chain, root, x) {
    const wanted = Math.max((x(chain.rows.length) - x(0)) / 70, 1);
    const step = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000].find((s) => chain.rows.length / s <= wanted) || 5000;
    let last = -Infinity;
    chain.rows.forEach((r, i) => {
      const at = x(i + 0.5);
      const edge = i === 0 || i === chain.rows.length - 1;
      if (!(edge || Number(model.labels[r]) % step === 0) || at - last < 30) return;
      last = at;
      root.append(svg.make("text", { x: at, y: TRACK_TOP + TRACK + 15, "text-anchor": "middle" }, model.labels[r]));
    });
  }

  function addChain(chain) {
    const box = document.createElement("div");
    box.className = "chain";
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    home.append(box);
    let geometry = null;
    let cross = null;

    function draw() {
      const width = box.clientWidth;
      if (width < 60) return;
      const root = svg.make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": `Chain ${chain.name}: ${describe(chain)}` });
      geometry = drawChain(chain, root, width);
      cross = svg.make("line", { class: "cross", visibility: "hidden", y1: TRACK_TOP - 4, y2: HEIGHT - 6 });
      root.append(cross);
      box.replaceChildren(root, tip);
    }

    box.addEventListener("pointermove", (event) => {
      const rect = box.getBoundingClientRect();
      const i = Math.floor((event.clientX - rect.left - LEFT) / geometry.span * chain.rows.length);
      if (i < 0 || i >= chain.rows.length) { leave(); return; }
      const r = chain.rows[i];
      const at = geometry.x(i + 0.5);
      for (const end of ["x1", "x2"]) cross.setAttribute(end, at);
      cross.setAttribute("visibility", "visible");
      tip.hidden = false;
      tip.innerHTML = `${model.names[r]} ${chain.name}:${model.labels[r]} · body ${model.body[r] + 1}, segment ${model.segment[r] + 1}<br>moves ${model.amplitude[r].toFixed(2)} Å RMS`;
      tip.style.left = `${Math.max(105, Math.min(rect.width - 105, at))}px`;
      tip.style.top = `${TRACK_TOP}px`;
      K.highlight(r);
    });
    function leave() {
      tip.hidden = true;
      if (cross) cross.setAttribute("visibility", "hidden");
      K.highlight(null);
    }
    box.addEventListener("pointerleave", leave);
    new ResizeObserver(draw).observe(box);
    K.onTheme(draw);
    draw();
  }

  function describe(chain) {
    return runs(chain.rows, (r) => model.body[r]).map((run) => `${model.labels[chain.rows[run.start]]} to ${model.labels[chain.rows[run.end - 1]]} body ${run.value + 1}`).join(", ");
  }

  chains.slice(0, SHOWN_CHAINS).forEach(addChain);
  if (chains.length > SHOWN_CHAINS) {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "plain more";
    more.textContent = `Show ${chains.length - SHOWN_CHAINS} more chains`;
    more.addEventListener("click", () => { more.remove(); chains.slice(SHOWN_CHAINS).forEach(addChain); });
    home.append(more);
  }
})();
