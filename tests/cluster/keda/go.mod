// KEDA, of which the tests take the definitions of its resources.
module berth.dev/tests/keda

go 1.24.0

require github.com/kedacore/keda/v2 v2.17.2
