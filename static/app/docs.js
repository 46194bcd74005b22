// The API reference: Swagger UI over the document of this very server. It asks no other host, and keeps no credential.

// as it was chosen in the dashboard, else as the system has it
const chosen = localStorage.getItem('stentor.theme');
if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
const dark = matchMedia('(prefers-color-scheme: dark)');
const follow = () => document.documentElement.classList.toggle('dark-mode', chosen === 'dark' || (chosen !== 'light' && dark.matches));
dark.addEventListener('change', follow);
follow();

SwaggerUIBundle({
  // relative, so that a proxy may serve all of this below a path
  url: '../openapi.json',
  dom_id: '#api',
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: 'none',
  filter: true,
  persistAuthorization: false,
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
  // a validator would be another host
  validatorUrl: null,
});
