package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// A pod of a Deployment or a Job.
type pod struct {
	owner string
	kind  string
	core.PodTemplateSpec
}

func check(objects []runtime.Object) (faults []error) {
	var pods []pod
	names := map[string]bool{}
	configMaps := map[string]bool{}
	accounts := map[string]bool{"": true}
	for _, object := range objects {
		kind := object.GetObjectKind().GroupVersionKind().Kind
		named, err := meta.Accessor(object)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		what := kind + " " + named.GetName()
		if names[what] {
			faults = append(faults, fmt.Errorf("%s: is there twice", what))
		}
		names[what] = true
		for _, wrong := range validation.IsDNS1123Subdomain(named.GetName()) {
			faults = append(faults, fmt.Errorf("%s: %s", what, wrong))
		}
		for key, value := range named.GetLabels() {
			for _, wrong := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
				faults = append(faults, fmt.Errorf("%s, label %s: %s", what, key, wrong))
			}
		}
		switch object := object.(type) {
		case *apps.Deployment:
			pods = append(pods, pod{what, kind, object.Spec.Template})
			if !selects(object.Spec.Selector, object.Spec.Template.Labels) {
				faults = append(faults, fmt.Errorf("%s: does not select its own pods", what))
			}
		case *batch.Job:
			pods = append(pods, pod{what, kind, object.Spec.Template})
		case *core.ConfigMap:
			configMaps[object.Name] = true
		case *core.ServiceAccount:
			accounts[object.Name] = true
		}
	}
	for _, pod := range pods {
		faults = append(faults, restricted(pod)...)
		faults = append(faults, contents(pod, configMaps, accounts)...)
	}
	for _, object := range objects {
		faults = append(faults, selectors(object, pods)...)
	}
	return append(faults, jobs(objects)...)
}

var job = regexp.MustCompile(`\bjob="([^"]+)"`)

// An alert that asks for a job by its name has a monitor that gives it.
func jobs(objects []runtime.Object) (faults []error) {
	given := map[string]bool{}
	for _, object := range objects {
		if monitor, is := object.(*monitoring.PodMonitor); is {
			for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
				for _, change := range endpoint.RelabelConfigs {
					given[*change.Replacement] = true
				}
			}
		}
	}
	for _, object := range objects {
		rule, is := object.(*monitoring.PrometheusRule)
		if !is {
			continue
		}
		for _, group := range rule.Spec.Groups {
			for _, alert := range group.Rules {
				for _, named := range job.FindAllStringSubmatch(alert.Expr.String(), -1) {
					if !given[named[1]] {
						faults = append(faults, fmt.Errorf("%s: %s asks for the job %s, which no monitor gives", rule.Name, alert.Alert, named[1]))
					}
				}
			}
		}
	}
	return faults
}

func restricted(pod pod) (faults []error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return []error{err}
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !result.Allowed {
		faults = append(faults, fmt.Errorf("%s: Pod Security: %s: %s", pod.owner, result.ForbiddenReason(), result.ForbiddenDetail()))
	}
	if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
		faults = append(faults, fmt.Errorf("%s: is given a token of the API server", pod.owner))
	}
	return faults
}

func contents(pod pod, configMaps, accounts map[string]bool) (faults []error) {
	fault := func(format string, values ...any) {
		faults = append(faults, fmt.Errorf(pod.owner+": "+format, values...))
	}
	if !accounts[pod.Spec.ServiceAccountName] {
		fault("no service account %s is made", pod.Spec.ServiceAccountName)
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Spec.Volumes {
		if volumes[volume.Name] {
			fault("the volume %s is there twice", volume.Name)
		}
		volumes[volume.Name] = true
		if volume.ConfigMap != nil && !configMaps[volume.ConfigMap.Name] {
			fault("no ConfigMap %s is made", volume.ConfigMap.Name)
		}
	}
	for _, container := range pod.Spec.Containers {
		for _, mount := range container.VolumeMounts {
			if !volumes[mount.Name] {
				fault("mounts %s, which is no volume", mount.Name)
			}
		}
		if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
			fault("%s has no limit of memory or asks for no processor", container.Name)
		}
		if container.SecurityContext.ReadOnlyRootFilesystem == nil || !*container.SecurityContext.ReadOnlyRootFilesystem {
			fault("%s can write to its root", container.Name)
		}
		for _, variable := range container.Env {
			if secret := strings.Contains(variable.Value, "://") && strings.Contains(variable.Value, "@"); secret {
				fault("%s has a password in its environment: %s", container.Name, variable.Name)
			}
		}
		if needed := stopMilliseconds(container); pod.grace()*1000 < needed {
			fault("is given %d s to stop, and may take %d ms", pod.grace(), needed)
		}
		if pod.kind == "Job" {
			continue
		}
		for _, probe := range []*core.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || !hasPort(container, probe.HTTPGet.Port) {
				fault("%s lacks a probe, or one asks a port that is not there", container.Name)
			}
		}
	}
	return faults
}

// How long a program may take to stop: what its settings say, one after the other, and the sleep before it.
func stopMilliseconds(container core.Container) (sum int64) {
	for _, variable := range container.Env {
		for _, suffix := range []string{"_DRAIN_TIMEOUT_MS", "_SHUTDOWN_DELAY_MS", "_SHUTDOWN_TIMEOUT_MS"} {
			if value, err := strconv.ParseInt(variable.Value, 10, 64); err == nil && strings.HasSuffix(variable.Name, suffix) {
				sum += value
			}
		}
	}
	if hooks := container.Lifecycle; hooks != nil && hooks.PreStop != nil && hooks.PreStop.Exec != nil {
		seconds, _ := strconv.ParseInt(hooks.PreStop.Exec.Command[1], 10, 64)
		sum += seconds * 1000
	}
	return sum
}

func (pod pod) grace() int64 {
	if given := pod.Spec.TerminationGracePeriodSeconds; given != nil {
		return *given
	}
	return 30 // Kubernetes' own
}

func hasPort(container core.Container, port intstr.IntOrString) bool {
	for _, known := range container.Ports {
		if known.Name == port.StrVal || (port.IntVal != 0 && known.ContainerPort == port.IntVal) {
			return true
		}
	}
	return false
}

// Whatever selects pods selects some of this release, and asks for ports that they have.
func selectors(object runtime.Object, pods []pod) (faults []error) {
	kind := object.GetObjectKind().GroupVersionKind().Kind
	var selector *metav1.LabelSelector
	var ports []intstr.IntOrString
	switch object := object.(type) {
	case *core.Service:
		selector = &metav1.LabelSelector{MatchLabels: object.Spec.Selector}
		for _, port := range object.Spec.Ports {
			ports = append(ports, port.TargetPort)
		}
	case *policyv1.PodDisruptionBudget:
		selector = object.Spec.Selector
	case *networking.NetworkPolicy:
		selector = &object.Spec.PodSelector
		for _, rule := range object.Spec.Ingress {
			for _, port := range rule.Ports {
				ports = append(ports, *port.Port)
			}
		}
	case *monitoring.PodMonitor:
		selector = &object.Spec.Selector
		for _, endpoint := range object.Spec.PodMetricsEndpoints {
			ports = append(ports, intstr.FromString(*endpoint.Port))
		}
	case *monitoring.PrometheusRule:
		if len(object.Spec.Groups) == 0 {
			faults = append(faults, fmt.Errorf("%s %s: has no rules", kind, object.Name))
		}
		return faults
	default:
		return nil
	}
	named, _ := meta.Accessor(object)
	found := false
	for _, pod := range pods {
		if !selects(selector, pod.Labels) {
			continue
		}
		found = true
		for _, port := range ports {
			if !hasPort(pod.Spec.Containers[0], port) {
				faults = append(faults, fmt.Errorf("%s %s: %s has no port %s", kind, named.GetName(), pod.owner, port.String()))
			}
		}
	}
	if !found {
		faults = append(faults, fmt.Errorf("%s %s: selects no pod", kind, named.GetName()))
	}
	return faults
}

func selects(selector *metav1.LabelSelector, of map[string]string) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !parsed.Empty() && parsed.Matches(labels.Set(of))
}
