package demo

import (
	"fmt"
	"testing"

	"github.com/lbctl/lbctl/internal/config"
)

func TestTheConfigurationOfEveryScenarioIsValid(t *testing.T) {
	for _, scenario := range Scenarios {
		c := &cluster{place: placeOf(""), opts: Options{Scenario: scenario, Nodes: 3, Attach: "native"}}
		for i := range 3 {
			c.nodes = append(c.nodes, &node{name: fmt.Sprintf("n%d", i+1)})
			c.backends = append(c.backends, &node{name: fmt.Sprintf("b%d", i+1)})
		}
		files := map[string]string{"node": c.config(c.nodes[0], c.nodes)}
		if scenario.directs() {
			files["node"] = c.config(c.nodes[0], c.nodes[:directors])
		}
		if scenario.directs() && scenario != NAT {
			files["backend"] = c.backendConfig()
		}
		for of, text := range files {
			if _, err := config.Parse(of, []byte(text)); err != nil {
				t.Errorf("%s: %v\n%s", scenario, err, text)
			}
		}
	}
}
