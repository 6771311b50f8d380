#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks Kubernetes manifests: against the strict schemas of two minors, and against what this project demands of each pod. Prints what
is wrong; exit 1 if there is anything. Runs in a Python that has kubernetes-validate; see helm.sh."""
import re
import sys

import kubernetes_validate
import yaml

# The oldest that the chart supports and one that came long after it.
MINORS = ("1.29", "1.36")
GROUPS_OF_OTHERS = ("keda.sh", "monitoring.coreos.com")


def pod_of(resource):
    """Its pod template's spec, or None."""
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"] if "template" in spec and resource["kind"] != "TriggerAuthentication" else None


def validate(resource):
    """By the schemas."""
    if resource["apiVersion"].split("/")[0] in GROUPS_OF_OTHERS:
        return
    for minor in MINORS:
        try:
            kubernetes_validate.validate(resource, minor, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {minor}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def demand(resource):
    """Of every pod: no rights, no injected variables, no writable root; of the server: one, probed by HTTP."""
    pod = pod_of(resource)
    if pod is None:
        return
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false: MILLRACE_PORT would be injected"
    if pod.get("automountServiceAccountToken") is not False:
        yield "it needs no service account's token"
    if not pod["securityContext"].get("runAsNonRoot"):
        yield "it must not run as root"
    for container in pod["containers"]:
        security = container["securityContext"]
        if not security["readOnlyRootFilesystem"] or security["allowPrivilegeEscalation"] or security["capabilities"] != {"drop": ["ALL"]}:
            yield f"{container['name']}: more rights than none"
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    offered = {volume["name"] for volume in pod.get("volumes", [])}
    offered |= {claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", [])}
    if mounted != offered:
        yield f"volumes {sorted(offered)}, mounts {sorted(mounted)}"
    if resource["kind"] == "StatefulSet":
        container = pod["containers"][0]
        if resource["spec"]["replicas"] != 1:
            yield "one process owns the store"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container[probe]["httpGet"]["port"] != "monitor":
                yield f"{probe}: not by the monitor port"


def selectors(resources):
    """Every selector finds a pod of these manifests, and every Service's port one of its ports."""
    pods = [(resource["spec"]["template"]["metadata"]["labels"], pod_of(resource)) for resource in resources
            if resource["kind"] in ("StatefulSet", "Deployment")]
    for resource in resources:
        spec = resource.get("spec", {})
        wanted = {"Service": spec.get("selector"), "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
                  "PodDisruptionBudget": (spec.get("selector") or {}).get("matchLabels") if resource["kind"] == "PodDisruptionBudget" else None,
                  }.get(resource["kind"])
        if wanted is None:
            continue
        found = [pod for labels, pod in pods if wanted.items() <= labels.items()]
        if len(found) != 1:
            yield f"{resource['kind']} {resource['metadata']['name']}: selects {len(found)} workloads"
            continue
        named = {port["name"] for container in found[0]["containers"] for port in container.get("ports", [])}
        for port in spec.get("ports", []):
            if resource["kind"] == "Service" and port["targetPort"] not in named:
                yield f"Service {resource['metadata']['name']}: no port {port['targetPort']}"


def flags(resources, known):
    """The server's flags are flags that there are."""
    for resource in resources:
        pod = pod_of(resource)
        for container in pod["containers"] if pod else []:
            if container.get("command") == ["millraced"]:
                for argument in container["args"]:
                    if re.match(r"--[a-z-]+", argument)[0] not in known:
                        yield f"millraced has no flag {argument}"


def main():
    with open("service/config.c", encoding="utf-8") as source:
        known = {f"--{name}" for name in re.findall(r'^    \{"([a-z-]+)", ', source.read(), re.M)}
    wrong = []
    for file in sys.argv[1:]:
        with open(file, encoding="utf-8") as text:
            resources = [document for document in yaml.safe_load_all(text) if document]
        name = "/".join(file.split("/")[-2:])
        for resource in resources:
            wrong += [f"{name}: {resource['kind']} {resource['metadata']['name']}: {what}"
                      for what in (*validate(resource), *demand(resource))]
        wrong += [f"{name}: {what}" for what in (*selectors(resources), *flags(resources, known))]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
