// Sorting of tables that ask for it. The page is complete without this script: the buttons exist only when it runs.
document.querySelectorAll("table[data-sort]").forEach((table) => {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th[data-key]").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      const column = head.cellIndex;
      const numeric = head.dataset.key === "number";
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => (numeric ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b)));
      const rows = [...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  });
});
