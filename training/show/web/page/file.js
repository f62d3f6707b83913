// Opened from a folder by a double click, the page cannot load the world: browsers load modules from servers only.

if (location.protocol === "file:") {
  const find = id => document.getElementById(id);
  find("veil").disabled = true;
  find("veil-say").textContent = "This folder must be served";
  find("veil-more").textContent = "Run “python -m http.server” in this folder, then open http://localhost:8000";
}
