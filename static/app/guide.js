// What the pages of the documentation are better with: the colours that were chosen in the dashboard, a key for the search, and
// buttons that copy. The pages read without it.

const theme = localStorage.getItem("stentor.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

const field = document.querySelector(".top input");
document.addEventListener("keydown", (event) => {
  const isTyped = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyped) return;
  event.preventDefault();
  field.select();
});

// only https and localhost may write to the clipboard
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("main pre")) {
    const frame = document.createElement("div");
    frame.className = "code";
    block.replaceWith(frame);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied: the browser does not allow it";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    frame.append(block, button);
  }
}
