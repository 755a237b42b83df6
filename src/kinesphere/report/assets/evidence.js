// What speaks for the motion: the sharper map, and the agreement with another method.
"use strict";

(() => {
  const { svg, data } = K;
  const { sharpness, agreement } = data;

  function line(root, xs, ys, x, y, kind) {
    root.append(svg.make("path", { class: kind, d: `M${ys.map((v, i) => `${x(xs[i]).toFixed(1)},${y(v).toFixed(1)}`).join("L")}` }));
  }

  function curves(root, width, height) {
    const left = 40, right = width - 10, base = height - 44;
    const top = sharpness.frequency[sharpness.frequency.length - 1];
    const x = svg.scale(0, top, left, right), y = svg.scale(0, 1, base, 10);
    svg.yAxis(root, y, 0, 1, left, right, 5);
    svg.xAxis(root, x, 0, top, base, right - left, "spatial frequency (1/Å)");
    root.append(svg.make("line", { class: "threshold", x1: left, x2: right, y1: y(0.143), y2: y(0.143) }));
    root.append(svg.make("text", { x: right, y: y(0.143) - 5, "text-anchor": "end" }, "0.143"));
    const inside = (values) => values.map((v) => Math.max(0, Math.min(1, v)));
    line(root, sharpness.frequency, inside(sharpness.still), x, y, "area-line");
    line(root, sharpness.frequency, inside(sharpness.moved), x, y, "curve");
    const names = [["curve", "along the motion"], ["area-line", "without motion"]];
    names.forEach(([kind, name], row) => {
      root.append(svg.make("line", { class: kind, x1: right - 146, x2: right - 122, y1: 20 + 18 * row, y2: 20 + 18 * row }));
      root.append(svg.make("text", { x: right - 114, y: 24 + 18 * row }, name));
    });
  }

  function dots(root, width, height) {
    const left = 46, right = width - 10, base = height - 44;
    const { first, second } = agreement;
    const centred = (values) => { const mean = values.reduce((a, b) => a + b, 0) / values.length; return values.map((v) => v - mean); };
    const a = centred(Array.from(first)), b = centred(Array.from(second));
    const reach = 1.06 * Math.max(...a.map(Math.abs), ...b.map(Math.abs), 0.1);
    const x = svg.scale(-reach, reach, left, right), y = svg.scale(-reach, reach, base, 8);
    svg.yAxis(root, y, -reach, reach, left, right, 5);
    svg.xAxis(root, x, -reach, reach, base, right - left, "main motion, this run (Å RMS, from the mean)");
    root.append(svg.make("line", { class: "threshold", x1: x(-reach), x2: x(reach), y1: y(-reach), y2: y(reach) }));
    a.forEach((v, i) => root.append(svg.make("circle", { class: "pair-dot", cx: x(v).toFixed(1), cy: y(b[i]).toFixed(1), r: 2 })));
    root.append(svg.make("text", { x: left + 8, y: 20 }, `the same, by ${agreement.method}`));
  }

  if (sharpness) svg.fill(document.getElementById("sharpness"), curves);
  else document.getElementById("sharpness-figure").hidden = true;
  if (agreement) {
    for (const name of ["first", "second"]) agreement[name] = K.decode(agreement[name]);
    svg.fill(document.getElementById("agreement"), dots);
  } else document.getElementById("agreement-figure").hidden = true;
  document.getElementById("evidence-section").hidden = !sharpness && !agreement;
})();
