// CoreDNS with the plugins a closed cluster needs, and no others: every plugin left out is minutes of building saved.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// The order in which plugins see a query, not the order of the configuration file.
var order = []string{"reload", "errors", "health", "ready", "prometheus", "cache", "loadbalance", "kubernetes", "forward"}

func main() {
	dnsserver.Directives = order
	coremain.Run()
}
