// Zoom and move a figure by its viewBox: wheel, drag, double-click for all of it.
for (const box of document.querySelectorAll(".zoom")) {
  const svg = box.querySelector("svg");
  const whole = svg.getAttribute("viewBox").split(/\s+/).map(Number);
  let view = [...whole], from = null;
  const show = () => svg.setAttribute("viewBox", view.join(" "));
  const scale = () => Math.max(view[2] / svg.clientWidth, view[3] / svg.clientHeight);
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = svg.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width, y = (event.clientY - frame.top) / frame.height;
    const width = Math.min(whole[2], Math.max(whole[2] / 40, view[2] * Math.exp(event.deltaY / 400)));
    const factor = width / view[2];
    view = [view[0] + x * view[2] * (1 - factor), view[1] + y * view[3] * (1 - factor), width, view[3] * factor];
    if (width === whole[2]) view = [...whole];
    show();
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY, ...view]; box.setPointerCapture(event.pointerId); });
  box.addEventListener("pointermove", (event) => {
    if (!from) return;
    view = [from[2] - (event.clientX - from[0]) * scale(), from[3] - (event.clientY - from[1]) * scale(), view[2], view[3]];
    show();
  });
  box.addEventListener("pointerup", () => { from = null; });
  box.addEventListener("dblclick", () => { view = [...whole]; show(); });
}
