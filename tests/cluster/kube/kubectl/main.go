// kubectl in a binary of its own. It runs for a moment, again and again, and to start all of
// Kubernetes each time takes twice what a command does.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// kubectl prints its own errors, and its exit status says which kind they are.
func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err)
	}
}
