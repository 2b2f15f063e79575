// Command webhook is the peer that Berth's admission webhook is measured against: the same rules, written as one
// writes them in Go with controller-runtime. Typed objects, the manager's cache for the custom resources,
// admission.PatchResponseFromRaw for the patch, one log line a review.
//
// It does what Berth does for the reviews that the benchmark sends: Deployments and StatefulSets, CREATE and UPDATE,
// annotated or owned by an MCPServer or VirtualMCPServer. It leaves out:
//   - the doors `scale`, HorizontalPodAutoscaler and the custom resources themselves, and removal on opt-out;
//   - v1alpha1 of the custom resources, a CRD that is installed later, the default session storage;
//   - the deference to ToolHive's operator by managedFields, and the warnings that refuse nothing;
//   - judging an old workload by the custom resource's old spec, and the session cache and TTL fields;
//   - metrics of its own (controller-runtime's are served), certificates other than from files.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9443", "address of the webhook (TLS)")
	admin := flag.String("admin", "127.0.0.1:9090", "address of /healthz and /readyz (plain)")
	metrics := flag.String("metrics", "0", "address of /metrics (plain), 0 for none")
	certDir := flag.String("tls-dir", ".", "directory with tls.crt and tls.key")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(*listen, *admin, *metrics, *certDir); err != nil {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}

func run(listen, admin, metrics, certDir string) error {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		return err
	}
	if err := addToScheme(scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metricsserver.Options{BindAddress: metrics},
		HealthProbeBindAddress: admin,
		WebhookServer:          webhook.NewServer(webhook.Options{Host: host, Port: port, CertDir: certDir}),
	})
	if err != nil {
		return err
	}
	ctx := ctrl.SetupSignalHandler()
	// The caches fill before the first review asks for them.
	if _, err := mgr.GetCache().GetInformer(ctx, &MCPServer{}); err != nil {
		return err
	}
	if _, err := mgr.GetCache().GetInformer(ctx, &VirtualMCPServer{}); err != nil {
		return err
	}
	p := &policies{cached: mgr.GetClient(), live: mgr.GetAPIReader()}
	decoder := admission.NewDecoder(scheme)
	server := mgr.GetWebhookServer()
	server.Register("/mutate", &admission.Webhook{Handler: &mutator{decoder: decoder, policies: p}})
	server.Register("/validate", &admission.Webhook{Handler: &validator{decoder: decoder, policies: p}})
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("webhook", server.StartedChecker()); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
