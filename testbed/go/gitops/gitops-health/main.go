// Prints what Flux and Argo CD make of objects: kstatus' result for each, and that of a Lua health check, which runs
// with the libraries that Argo CD gives it, and no other.
//
// usage: gitops-health CHECK.lua < list.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type health struct {
	Flux    string `json:"flux"`
	ArgoCD  string `json:"argoCD"`
	Message string `json:"message"` // of Argo CD
}

func main() {
	check, err := os.ReadFile(os.Args[1])
	exitOn(err)
	list := &unstructured.UnstructuredList{}
	exitOn(json.NewDecoder(os.Stdin).Decode(list))
	results := []health{}
	for i := range list.Items {
		computed, err := status.Compute(&list.Items[i])
		exitOn(err)
		checked := runCheck(string(check), list.Items[i].Object)
		checked.Flux = computed.Status.String()
		results = append(results, checked)
	}
	exitOn(json.NewEncoder(os.Stdout).Encode(results))
}

func runCheck(script string, object map[string]any) health {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	}
	for name, open := range libraries {
		call := lua.P{Fn: state.NewFunction(open), Protect: true}
		exitOn(state.CallByParam(call, lua.LString(name)))
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	text, err := json.Marshal(object)
	exitOn(err)
	value, err := luajson.Decode(state, text)
	exitOn(err)
	state.SetGlobal("obj", value)
	exitOn(state.DoString(script))
	text, err = luajson.Encode(state.Get(-1))
	exitOn(err)
	returned := struct{ Status, Message string }{}
	exitOn(json.Unmarshal(text, &returned))
	return health{ArgoCD: returned.Status, Message: returned.Message}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
