// Training curves, one small chart for each quantity that was recorded and changed.
"use strict";

(() => {
  const { svg, data } = K;
  const { epoch, series } = data.training;
  const home = document.getElementById("training");
  const SHOWN = 8;
  if (!series.length) { document.getElementById("training-section").hidden = true; return; }

  for (const { name, meaning, values } of series.slice(0, SHOWN)) {
    const figure = document.createElement("figure");
    figure.className = "card multiple";
    const title = document.createElement("h3");
    title.textContent = name.replaceAll("_", " ");
    const plot = document.createElement("div");
    plot.className = "plot";
    const note = document.createElement("p");
    note.className = "note bare";
    note.textContent = meaning;
    figure.append(title, plot, note);
    home.append(figure);
    const points = values.map((v, i) => [epoch[i], v]).filter(([, v]) => v !== null);
    const low = Math.min(...points.map(([, v]) => v)), high = Math.max(...points.map(([, v]) => v));
    svg.fill(plot, (root, width, height) => {
      const base = height - 22;
      const x = svg.scale(epoch[0], epoch[epoch.length - 1], 52, width - 8);
      const y = svg.scale(low, high, base - 4, 8);
      svg.yAxis(root, y, low, high, 52, width - 8, 3);
      svg.xAxis(root, x, epoch[0], epoch[epoch.length - 1], base, width - 60, "");
      root.append(svg.make("path", { class: "curve", d: `M${points.map(([e, v]) => `${x(e).toFixed(1)},${y(v).toFixed(1)}`).join("L")}` }));
    });
    const last = points[points.length - 1];
    title.append(Object.assign(document.createElement("span"), { textContent: ` ${svg.label(last[1])}`, style: "font-weight:400;color:var(--soft)" }));
  }
  K.announce(K.stateOnPath(0, 0));
})();
