"""Has Helm check the chart and make manifests of it, for several values: chart.py PACKAGING OUT. What is made is written to OUT, each with
the settings that are in it, to be judged by others."""

import json
import re
import sys
from pathlib import Path

import yaml
from helm_python import chart
from helm_python.errors import HelmError

PACKAGING, OUT = map(Path, sys.argv[1:])
CHART = PACKAGING / "helm/stentor"
CASES = {
    "as-it-is": {},
    "with-everything": {
        "image": {"repository": "registry.example.org:5000/a/stentor", "tag": "1.2.3", "pullSecrets": ["registry"]},
        "existingSecret": "keys-of-stentor",
        "publicUrl": "https://events.example.org/live",
        "trustedProxies": ["10.0.0.0/8", "192.168.7.1"],
        "settings": "[retention]\nmax_age_s = 604800\n\n[cors]\nallowed_origins = [\"https://example.org\"]\n",
        "env": [{"name": "STENTOR__LIMITS__STREAMS_PER_TOKEN", "value": "100"}],
        "persistence": {"size": "100Gi", "storageClass": "local", "accessMode": "ReadWriteOnce"},
        "service": {"type": "LoadBalancer", "port": 8080},
        "ingress": {"enabled": True, "className": "nginx", "host": "events.example.org", "tlsSecret": "events-tls"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podAnnotations": {"example.org/a": "b"},
        "podLabels": {"team": "events"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "events", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
}
WRONG = [{"publicUrl": "events.example.org"}, {"replicas": 2}, {"persistence": {"size": "1Gi", "accessMode": "ReadWriteMany"}}]


def without_release(manifest: dict) -> dict:
    """A manifest without what Helm says of itself: to be compared with the one that is applied by hand."""
    text = json.dumps(manifest)
    for name in ("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart", "app.kubernetes.io/component"):
        text = re.sub(rf'"{re.escape(name)}": "[^"]*",? ?', "", text).replace(", }", "}")
    return json.loads(text)


OUT.mkdir(parents=True)
for name, values in CASES.items():
    report = chart.lint(CHART, values, strict=True)
    assert not report["errors"], report
    rendered = chart.Chart.load(CHART).render(values, name="stentor", namespace="events")
    made = {path: list(filter(None, yaml.safe_load_all(text))) for path, text in rendered.items() if path.endswith(".yaml")}
    manifests = [manifest for each in made.values() for manifest in each]
    kinds = sorted(manifest["kind"] for manifest in manifests)
    wanted = ["ConfigMap", "Service", "Service", "StatefulSet"] + (["Ingress", "ServiceMonitor"] if values else [])
    assert kinds == sorted(wanted), kinds
    # the kinds of the operator of Prometheus are no part of Kubernetes
    standard = [manifest for manifest in manifests if manifest["kind"] != "ServiceMonitor"]
    (OUT / f"{name}.yaml").write_text(yaml.safe_dump_all(standard))
    settings = next(manifest for manifest in manifests if manifest["kind"] == "ConfigMap")["data"]["stentor.toml"]
    # any free port, on this machine only
    (OUT / f"{name}.toml").write_text(settings.replace("0.0.0.0:8081", "127.0.0.1:0"))
    stateful = next(manifest for manifest in manifests if manifest["kind"] == "StatefulSet")
    pod = stateful["spec"]["template"]["spec"]
    assert stateful["spec"]["replicas"] == 1
    if not values:
        by_hand = list(yaml.safe_load_all((PACKAGING / "kubernetes/stentor.yaml").read_text()))
        [other] = [manifest for manifest in by_hand if manifest["kind"] == "StatefulSet"]
        own = without_release(stateful)
        del own["spec"]["template"]["metadata"]["annotations"]
        del own["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"]
        assert own["spec"] == other["spec"], "the chart and kubernetes/stentor.yaml differ"
    else:
        [server] = pod["containers"]
        assert server["image"] == "registry.example.org:5000/a/stentor:1.2.3"
        assert {"name": "STENTOR__LIMITS__STREAMS_PER_TOKEN", "value": "100"} in server["env"]
        assert [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume] == ["keys-of-stentor"]
        assert 'public_url = "https://events.example.org/live"' in settings and "max_age_s = 604800" in settings
for values in WRONG:
    try:
        chart.Chart.load(CHART).render(values, name="stentor", namespace="events")
    except HelmError:
        continue
    raise AssertionError(f"the chart takes {values}")
