"use strict";
// Each form.filter hides the rows of its table that lack a typed word or a chosen value.
for (const form of document.querySelectorAll("form.filter")) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const output = form.querySelector("output");
  const apply = () => {
    const wanted = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...form.querySelectorAll("select")].filter((one) => one.value);
    let shown = 0;
    rows.forEach((row, number) => {
      const fits = wanted.every((word) => words[number].includes(word))
        && chosen.every((one) => row.dataset[one.name].split(" ").includes(one.value));
      row.hidden = !fits;
      shown += fits;
    });
    output.value = `${shown} of ${rows.length} rows`;
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;
  apply();
}
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
